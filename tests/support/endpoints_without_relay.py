"""A server with endpoints and no relay. Tests record results as a relay would, with the relay's own code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chatserver.clock import now
from chatserver.mongo import Mongo
from chatserver.outbox.endpoints import partition_of, slots_of
from chatserver.outbox.pending import WAKEUP_ID, Pending, ordering_key_of
from chatserver.outbox.relay.results import Backoff, Results

from .command import Ran, run
from .people import PATIENCE_S, People, Person
from .servers import ChatServer, free_port

CRM = '[crm]\nurl = "http://10.0.0.7/chat"\nsecret = "of-the-tests"\ntypes = ["message.created"]\n'
WEEK = timedelta(days=7)


class IdleOutbox:
    """A server with endpoints but without a relay that would empty its outbox, and the server's database."""

    def __init__(self, server: ChatServer, people: People, mongo: Mongo) -> None:
        self.server = server
        self.people = people
        self.mongo = mongo
        self.results = Results(mongo)

    async def status(self) -> dict[str, Any]:
        code, answer = await self.people.master("GET", "/webhooks")
        assert code == 200
        return answer

    async def endpoint(self, name: str) -> dict[str, Any]:
        return next(
            endpoint for endpoint in (await self.status())["endpoints"] if endpoint["name"] == name
        )

    async def replay(self, **selection: Any) -> dict[str, Any]:
        code, answer = await self.people.master("POST", "/webhooks/replay", selection)
        assert code == 200, answer
        return answer

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str, list[str]]:
        code, answer = await self.people.master(method, f"/webhooks{path}", body)
        error = answer["error"]
        return code, error["code"], list(error.get("details", ()))

    async def pending(self, name: str) -> list[Pending]:
        """Returns the records that are due for an endpoint, in the order of their ids."""
        found = [
            Pending(collection.name, doc)
            for collection in (self.mongo.log, self.mongo.outbox)
            async for doc in collection.find({"due": {"$in": slots_of(name)}})
        ]
        return sorted(found, key=lambda pending: pending.id)

    async def due(self, name: str) -> list[str]:
        """Returns the ids of the events that are due for an endpoint."""
        return [f"evt_{pending.id}" for pending in await self.pending(name)]

    async def comes(self, name: str, type_: str) -> None:
        """Waits until an event of this type is due."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if type_ in map(type_of, await self.pending(name)):
                    return
                await asyncio.sleep(0.02)

    async def deliver(self, name: str) -> list[str]:
        """Marks all due events as delivered, as a relay would. Returns their ids."""
        due = await self.pending(name)
        await asyncio.gather(
            *[self.results.delivered(name, [pending], ends_backoff_of=None) for pending in due]
        )
        return [f"evt_{pending.id}" for pending in due]

    async def give_up(self, name: str, type_: str, error: str = "answered 410") -> list[str]:
        """Gives up all due events of a type, as a relay would. Returns their ids."""
        due = [pending for pending in await self.pending(name) if type_of(pending) == type_]
        for pending in due:
            await self.results.dead_letter(name, pending, 17, error)
        return [f"evt_{pending.id}" for pending in due]

    async def back_off(self, name: str, pending: Pending, error: str) -> None:
        ordering_key = ordering_key_of(pending.id)
        at = now()
        backoff = Backoff(
            name, ordering_key, partition_of(ordering_key), at, 3, at + timedelta(seconds=4), error
        )
        await self.results.backing_off(backoff, pending)

    async def wakeups(self) -> int:
        wakeup = await self.mongo.relays.find_one({"_id": WAKEUP_ID})
        return wakeup["rings"] if wakeup else 0

    async def run(self, *words: str) -> Ran:
        return await run("webhooks", *words, **self.server.env)


def type_of(pending: Pending) -> str:
    kind = pending.doc["kind"]
    return {"message": "message.created", "edit": "message.updated"}.get(kind, kind)


Opener = Callable[..., Awaitable[IdleOutbox]]


@pytest_asyncio.fixture
async def idle_outbox(
    start: Callable[..., Awaitable[ChatServer]],
    people_of: Callable[[ChatServer], People],
    mongo_url: str,
    tmp_path: Path,
) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:

        async def open_outbox(**settings: str) -> IdleOutbox:
            url = f"http://user:the-password@127.0.0.1:{free_port()}/hooks?the-key"
            server = await start(**{"WEBHOOK_URL": url, "WEBHOOK_RELAY": "off", **settings})
            mongo = Mongo(mongo_url, server.env["MONGO_DATABASE"])
            stack.push_async_callback(mongo.close)
            return IdleOutbox(server, people_of(server), mongo)

        yield open_outbox


@pytest.fixture
def crm(tmp_path: Path) -> dict[str, str]:
    """The settings that add an endpoint for new messages only."""
    file = tmp_path / "hooks.toml"
    file.write_text(CRM)
    return {"WEBHOOKS_FILE": str(file)}


async def talk_of(outbox: IdleOutbox, *messages: str) -> tuple[Person, Any, list[Any]]:
    alice, bob = outbox.people("alice", "bob")
    talk = await alice.group(bob)
    path = f"/conversations/{talk['id']}/messages"
    said = [await alice.ask("POST", path, {"content": text}) for text in messages]
    return alice, talk, said
