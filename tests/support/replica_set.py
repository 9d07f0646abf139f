"""A MongoDB replica set of three, whose members can be killed, frozen, and cut off from each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pymongo.errors

from .patience import PATIENCE_S, slowness
from .servers import MongoServer, free_port

MEMBERS = 3
ELECTION_MS = 1000
"""The others elect another primary when they have not heard of it for this long. MongoDB's default is 10,000."""


class Door:
    """The address of a member, for everybody. It knows which member connects, so that it can refuse one alone."""

    def __init__(self, members: list[MongoServer], to: MongoServer) -> None:
        self.port = free_port()
        self._members = members
        self._to = to
        self._refused: list[MongoServer] = []
        self._links: dict[asyncio.Task[None], MongoServer | None] = {}

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._enter, "127.0.0.1", self.port)

    async def close(self) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def refuse(self, *members: MongoServer) -> None:
        """Cuts the connections of these members, and refuses new ones until it is called again."""
        self._refused = list(members)
        for link, member in self._links.items():
            if member in self._refused:
                link.cancel()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("peername")[1]
        member = next((member for member in self._members if _owns(member, port)), None)
        link = asyncio.current_task()
        assert link is not None
        self._links[link] = member
        try:
            if member is None or member not in self._refused:
                # Cancelled by `refuse`. Python's streams would report a connection that ends so.
                with contextlib.suppress(asyncio.CancelledError):
                    await self._pass_on(reader, writer)
        finally:
            writer.transport.abort()
            del self._links[link]

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._to.port)
            try:
                ways = [
                    asyncio.create_task(_carry(*ends)) for ends in ((reader, back), (there, writer))
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
            finally:
                back.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()


def _owns(member: MongoServer, port: int) -> bool:
    """Returns True if a connection from this port is one of the member's."""
    inodes = {
        f"socket:[{words[9]}]"
        for words in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if words[1].endswith(f":{port:04X}")
    }
    owned = Path(f"/proc/{member.process.pid}/fd")
    with contextlib.suppress(FileNotFoundError):  # the member was killed
        for number in os.listdir(owned):
            with contextlib.suppress(FileNotFoundError):  # it has just closed this file
                if os.readlink(owned / number) in inodes:
                    return True
    return False


class ReplicaSet:
    def __init__(self, folder: Path) -> None:
        self.members = [MongoServer(folder / f"mongo-{n}") for n in range(MEMBERS)]
        self._doors = [Door(self.members, member) for member in self.members]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{door.port}" for door in self._doors)
        return f"mongodb://{hosts}/?replicaSet=tests"

    async def start(self) -> None:
        for member, door in zip(self.members, self._doors, strict=True):
            member.launch()
            await door.open()
        members = [
            {"_id": n, "host": f"127.0.0.1:{door.port}"} for n, door in enumerate(self._doors)
        ]
        settings = {
            "electionTimeoutMillis": int(ELECTION_MS * slowness()),
            "heartbeatIntervalMillis": 200,
        }
        config = {"_id": "tests", "members": members, "settings": settings}
        for member in self.members:
            # Each must answer the one that initiates the set. The driver waits until it listens.
            await asyncio.to_thread(_command, member, "ping", within_s=PATIENCE_S)
        await asyncio.to_thread(
            _command, self.members[0], "replSetInitiate", config, within_s=PATIENCE_S
        )
        await self.primary()

    async def primary(self, besides: MongoServer | None = None) -> MongoServer:
        """Waits until the set has a primary, another one than `besides`, and returns it."""
        end = time.monotonic() + PATIENCE_S
        others = [member for member in self.members if member is not besides]
        while True:
            for member in others:
                with contextlib.suppress(pymongo.errors.PyMongoError):
                    if (await asyncio.to_thread(_command, member, "hello"))["isWritablePrimary"]:
                        return member
            assert time.monotonic() < end, "no member becomes primary"
            await asyncio.sleep(0.05)

    async def complete(self) -> None:
        """Waits until the set has one primary, and the others follow it."""
        end = time.monotonic() + PATIENCE_S
        while True:
            states = []
            for member in self.members:
                with contextlib.suppress(pymongo.errors.PyMongoError):
                    hello = await asyncio.to_thread(_command, member, "hello")
                    states.append((hello["isWritablePrimary"], hello["secondary"]))
            if sorted(states) == [(False, True)] * (MEMBERS - 1) + [(True, False)]:
                return
            assert time.monotonic() < end, states
            await asyncio.sleep(0.05)

    def step_down(self, primary: MongoServer) -> None:
        _command(primary, "replSetStepDown", 10, force=True)

    def isolate(self, member: MongoServer) -> None:
        """Cuts a member off from the others. Clients reach all of them."""
        others = [other for other in self.members if other is not member]
        for door, behind in zip(self._doors, self.members, strict=True):
            door.refuse(*(others if behind is member else [member]))

    def heal(self) -> None:
        for door in self._doors:
            door.refuse()

    async def stop(self) -> None:
        for member in self.members:
            await asyncio.to_thread(member.kill)
        for door in self._doors:
            await door.close()


def _command(member: MongoServer, *words: Any, within_s: float = 2.0, **options: Any) -> Any:
    url = f"mongodb://127.0.0.1:{member.port}/?directConnection=true"
    limit_ms = int(1000 * within_s)
    with pymongo.MongoClient(
        url, serverSelectionTimeoutMS=limit_ms, socketTimeoutMS=limit_ms
    ) as client:
        return client.admin.command(*words, **options)


@asynccontextmanager
async def replica_set(folder: Path) -> AsyncIterator[ReplicaSet]:
    servers = ReplicaSet(folder)
    try:
        await servers.start()
        yield servers
    finally:
        await servers.stop()
