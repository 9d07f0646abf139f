"""A process that stalls in the middle of a transaction delays its conversations, and no others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pymongo

from chatserver.chat.log.writers import WRITERS
from tests.conftest import Starter
from tests.support.foreign_writer import take_next_offset
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.raw import Wire, history
from tests.support.servers import ChatServer, MongoServer
from tests.support.steady_talk import Stream

FRIENDS = 40
LOCKED = 3
LOCKED_S = 6.0
EVERY_S = 0.1
"""The time between two messages to a conversation."""


class Measured(Stream):
    """A stream that keeps the time until each acknowledgement."""

    def __init__(self, wire: Wire, talk: Any) -> None:
        super().__init__(wire, talk)
        self.took: list[float] = []

    async def say(self) -> None:
        began = time.monotonic()
        await super().say()
        self.asked[-1].add_done_callback(lambda _: self.took.append(time.monotonic() - began))


@asynccontextmanager
async def locked(mongo_url: str, database: str, talks: list[Any]) -> AsyncIterator[None]:
    """Another process has written the next entry of each log, and commits or aborts much later."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(pymongo.AsyncMongoClient[Any](mongo_url))
        sessions = []
        for talk in talks:
            session = await stack.enter_async_context(client.start_session())
            await session.start_transaction()
            await take_next_offset(client[database].log, talk, session)
            sessions.append(session)
        yield
        for n, session in enumerate(sessions):
            await (session.abort_transaction() if n % 2 else session.commit_transaction())


async def scene(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> tuple[str, list[Measured]]:
    """Returns the name of the database, and a stream for each of many conversations, which the server knows."""
    own_mongo.set(transactionLifetimeLimitSeconds=60)
    server = await start(own_mongo.url)
    alice, *friends = people_of(server)("alice", *[f"friend{n}" for n in range(FRIENDS)])
    talks = [await friend.direct(alice) for friend in friends]
    wires = [await Wire.connect(friend) for friend in friends]
    streams = [Measured(wire, talk) for wire, talk in zip(wires, talks, strict=True)]
    for stream in streams:
        await stream.say()
    await asyncio.gather(*[stream.asked[0] for stream in streams])
    return server.env["MONGO_DATABASE"], streams


async def all_is_stored(streams: list[Measured]) -> None:
    """Every message is stored once, without a gap, and everything acknowledged is there."""
    for stream in streams:
        said = await history(stream.wire.person, stream.talk)
        texts = {message["content"] for message in said}
        assert texts == {str(n) for n in range(len(stream.asked))}
        assert [message["seq"] for message in said] == list(range(1, len(stream.asked) + 1))
        assert [message["id"] for message in stream.acked()] == [
            message["id"] for message in sorted(said, key=lambda one: int(one["content"]))
        ]
        first_tries = [text for text in texts if text not in stream.repeated]
        order = [message["content"] for message in said if message["content"] in first_tries]
        assert order == sorted(order, key=int)


async def test_a_locked_conversation_delays_no_other(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """The messages of all conversations share batches when the locks begin."""
    database, streams = await scene(own_mongo, start, people_of)
    stuck, others = streams[:LOCKED], streams[LOCKED:]
    async with locked(own_mongo.url, database, [stream.talk for stream in stuck]):
        running = [asyncio.create_task(stream.run(EVERY_S)) for stream in streams]
        await asyncio.sleep(LOCKED_S)
    await asyncio.sleep(1)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for stream in streams:
        await stream.repeat()
    took = sorted(seconds for stream in others for seconds in stream.took)
    assert [stream.repeated for stream in others if stream.repeated] == []
    assert took[len(took) * 99 // 100] < 0.25 * slowness()
    assert took[-1] < 0.5 * slowness()
    assert all(stream.repeated for stream in stuck), "they were not locked"
    await all_is_stored(streams)


async def test_locked_conversations_do_not_take_all_writers(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Each of their messages is alone in its batch."""
    database, streams = await scene(own_mongo, start, people_of)
    stuck, others = streams[: 2 * WRITERS], streams[2 * WRITERS :]
    async with locked(own_mongo.url, database, [stream.talk for stream in stuck]):
        for stream in stuck:
            await stream.say()
            await asyncio.sleep(0.05)
        for stream in others:
            await stream.say()
        async with asyncio.timeout(1.5 * slowness()):
            answers = await asyncio.gather(*[stream.asked[-1] for stream in others])
        assert all(answer and answer["ok"] for answer in answers)
        assert not any(stream.asked[-1].done() for stream in stuck)
    # The locks ended in time: these messages were only late.
    answers = await asyncio.gather(*[stream.asked[-1] for stream in stuck])
    assert all(answer and answer["ok"] for answer in answers)
    await all_is_stored(streams)
