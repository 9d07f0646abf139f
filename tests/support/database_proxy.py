"""A proxy between a node and MongoDB. It can hold one command, or everything in one direction, so that a test decides
what happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
import pytest_asyncio
from pymongo.uri_parser import parse_uri

from .patience import PATIENCE_S
from .servers import ChatServer, chat_server

_COMMAND_AT = 16 + 4 + 1 + 4
"""A message is a header, flags, the kind of its first section, and a BSON document that begins with its length.
The first field of the document names the command and the collection."""


class Hold:
    """The next such command about a conversation or a user. It reaches MongoDB when the test releases it.

    Without the id it could be one that the node makes in the background, for an earlier test.
    """

    def __init__(self, command: str, collection: str, about: str) -> None:
        value = collection.encode() + b"\0"
        self._begins = b"\x02" + command.encode() + b"\0" + struct.pack("<i", len(value)) + value
        self._about = about.encode()
        self._arrived = asyncio.Event()
        self._released = asyncio.Event()

    def holds(self, message: bytes) -> bool:
        return message.startswith(self._begins, _COMMAND_AT) and self._about in message

    async def arrived(self) -> None:
        """Waits until the node has sent the command."""
        await asyncio.wait_for(self._arrived.wait(), PATIENCE_S)

    def release(self) -> None:
        self._released.set()

    async def keep(self) -> None:
        self._arrived.set()
        await self._released.wait()


class DatabaseProxy:
    def __init__(self, mongo_url: str) -> None:
        ((self._host, self._port),) = parse_uri(mongo_url)["nodelist"]
        self._hold: Hold | None = None
        self._delay_s = 0.0
        self._links: set[asyncio.Task[None]] = set()
        self._requests_pass, self._answers_pass = asyncio.Event(), asyncio.Event()
        self._requests_pass.set()
        self._answers_pass.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._links, return_exceptions=True)

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    def hold(self, command: str, collection: str, about: str) -> Hold:
        self._hold = Hold(command, collection, about)
        return self._hold

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """In the block, everything that the node sends arrives so much later."""
        self._delay_s = seconds
        try:
            yield
        finally:
            self._delay_s = 0.0

    def holding_requests(self) -> AbstractContextManager[None]:
        """Holds everything that the node sends. It reaches MongoDB after the block."""
        return self._holding(self._requests_pass)

    def holding_answers(self) -> AbstractContextManager[None]:
        """MongoDB does what it is asked to do. Its answers reach the node after the block."""
        return self._holding(self._answers_pass)

    @staticmethod
    @contextlib.contextmanager
    def _holding(passes: asyncio.Event) -> Iterator[None]:
        passes.clear()
        try:
            yield
        finally:
            passes.set()

    def cut(self) -> None:
        """Closes the current connections. What is held is lost."""
        for link in self._links:
            link.cancel()

    async def _connected(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        replies, database = await asyncio.open_connection(self._host, self._port)
        down = asyncio.create_task(self._answer(replies, back))
        try:
            # Cancelled by `cut`. Python's streams would report a connection that ends so.
            with contextlib.suppress(
                asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
            ):
                while True:
                    await self._pass_on(client, database)
        finally:
            down.cancel()
            for end in (back, database):
                end.close()

    async def _pass_on(self, client: asyncio.StreamReader, database: asyncio.StreamWriter) -> None:
        size = await client.readexactly(4)
        message = size + await client.readexactly(struct.unpack("<i", size)[0] - 4)
        hold = self._hold
        if hold is not None and hold.holds(message):
            self._hold = None
            await hold.keep()
        await self._requests_pass.wait()
        await asyncio.sleep(self._delay_s)
        database.write(message)
        await database.drain()

    async def _answer(self, replies: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await replies.read(65536):
                await self._answers_pass.wait()
                back.write(data)
                await back.drain()
        back.close()


class Nodes(NamedTuple):
    """Two nodes. The database of `far` is behind the proxy."""

    near: ChatServer
    far: ChatServer
    proxy: DatabaseProxy


@pytest_asyncio.fixture(scope="module")
async def two(
    mongo_url: str, redis_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Nodes]:
    folder, database = tmp_path_factory.mktemp("two"), f"{worker}-two-{time.time_ns()}"

    def node(name: str, mongo: str) -> Any:
        return chat_server(mongo, database, Path(folder / name), REDIS_URL=redis_url)

    async with (
        DatabaseProxy(mongo_url) as proxy,
        node("near", mongo_url) as near,
        node("far", proxy.url) as far,
    ):
        yield Nodes(near, far, proxy)
