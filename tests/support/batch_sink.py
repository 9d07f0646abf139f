"""A sink that takes batches and answers as a test tells it to, and a relay that hands them over.

The relay runs in the process of the test, on a real database.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from chatserver import tasks
from chatserver.chat.webhook_events import WebhookEvents
from chatserver.clock import now
from chatserver.mongo import Mongo, Session
from chatserver.outbox.endpoints import BadEndpoint, Endpoint, Routes, SinkOptions
from chatserver.outbox.event import Event, OutboxRecord, event_id
from chatserver.outbox.metrics import RelayMetrics
from chatserver.outbox.outbox import Outbox
from chatserver.outbox.relay.deliveries import Retry
from chatserver.outbox.relay.relay import Relay
from chatserver.outbox.sinks.registry import SINKS, Registered, build
from chatserver.outbox.sinks.sink import Delivery, Sink

from .exposition import samples
from .patience import PATIENCE_S
from .servers import ChatServer

DELIVERED = Delivery("delivered")
ENDPOINT = Endpoint(name="default", url="batch://user:the-password@one:9092/?the-key", secrets=())
QUICK = Retry(first_s=0.05, max_s=0.2)


class BatchSink(Sink):
    kind = "queue"
    max_batch = 10

    def __init__(self, endpoint: Endpoint) -> None:
        self.answer: Callable[[Event], Delivery] = lambda event: DELIVERED
        self.work: Callable[[], Awaitable[None]] | None = None
        """The work of a call before it answers. It may wait, hang or raise."""
        self.calls: list[Sequence[Event]] = []
        self.taken: defaultdict[str, list[str]] = defaultdict(list)
        """Ids of the delivered events by key, in order, with repeats."""
        self.running = 0
        self.closed = 0
        self.broken: list[str] = []
        """Promises of the relay to a sink (outbox/sinks/sink.py) that it did not keep."""
        self._busy: Counter[str] = Counter()

    @staticmethod
    def check(url: str, options: SinkOptions) -> None:
        if "@nowhere" in url:
            raise BadEndpoint("its broker is nowhere.")

    async def deliver(self, events: Sequence[Event]) -> Sequence[Delivery]:
        keys = {event.key for event in events}
        for kept, promise in (
            (not self.closed, "nothing after close"),
            (1 <= len(events) <= self.max_batch, "max_batch"),
            (self.running < self.concurrency, "concurrency"),
            (self.keeps_order or len(keys) == len(events), "keeps_order"),
            (not keys & (+self._busy).keys(), "a key in one call at a time"),
        ):
            if not kept:
                self.broken.append(promise)
        self.calls.append(events)
        self.running += 1
        self._busy.update(keys)
        try:
            if self.work:
                await self.work()
            return self._answers(events)
        finally:
            self.running -= 1
            self._busy.subtract(keys)

    def _answers(self, events: Sequence[Event]) -> Sequence[Delivery]:
        answers: list[Delivery] = []
        failed: dict[str, Delivery] = {}
        for event in events:
            answer = failed.get(event.key) or self.answer(event)
            if answer.outcome == "failed":
                failed[event.key] = answer
            elif answer.outcome == "delivered":
                self.taken[event.key].append(event.id)
            answers.append(answer)
        return answers

    async def close(self) -> None:
        self.closed += 1
        if self.running:
            self.broken.append("close after the last call")


class Outlet:
    """A sink, the relay that serves it, and the records that are due for it."""

    def __init__(self, mongo: Mongo, sink: BatchSink, retry: Retry) -> None:
        self.mongo = mongo
        self.sink = sink
        self.recorded: defaultdict[str, list[str]] = defaultdict(list)
        """Ids of the recorded events by key, in order."""
        self.metrics = RelayMetrics([ENDPOINT.name])
        self._outbox = Outbox(mongo, Routes([ENDPOINT]))
        self._relay = Relay(
            mongo,
            {ENDPOINT.name: sink},
            WebhookEvents(mongo).event,
            retry,
            observe=self.metrics.observe,
        )
        self._running: asyncio.Task[None] | None = None

    async def record(self, keys: Sequence[str], count: int = 1) -> None:
        """Record this many events of each key, all keys in turn."""
        records = []
        for _ in range(count):
            for key in keys:
                position = (1, len(self.recorded[key]))
                record = OutboxRecord.of_conversation(
                    "participant.added", key, position, now(), {"conversationId": key}
                )
                self.recorded[key].append(event_id(record.id))
                records.append(record)

        async def append(session: Session) -> None:
            await self._outbox.append(session, records)

        await self.mongo.transaction(append)

    def run(self) -> None:
        self._running = asyncio.create_task(self._relay.run())

    async def stop(self) -> None:
        await tasks.end(self._running)
        await self._relay.close()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def settled(self) -> None:
        """Returns when nothing is due and no key backs off."""
        await self.left([])
        await self.all_back_off([])

    async def left(self, ids: Sequence[str]) -> None:
        """Returns when only these events are due."""
        end = time.monotonic() + PATIENCE_S
        while (due := await self.due()) != ids:
            assert time.monotonic() < end, (due, self.sink.calls[-3:])
            await asyncio.sleep(0.02)

    async def due(self) -> list[str]:
        due = self.mongo.outbox.find({"due": {"$exists": True}}).sort("_id", 1)
        return [event_id(doc["_id"]) async for doc in due]

    async def backoffs(self) -> dict[str, str]:
        """Returns the reason of each key that backs off."""
        return {doc["key"]: doc["error"] async for doc in self.mongo.holds.find()}

    async def all_back_off(self, keys: Sequence[str]) -> list[str]:
        """Returns the reasons when all of these keys back off."""
        end = time.monotonic() + PATIENCE_S
        while (found := await self.backoffs()).keys() != set(keys):
            assert time.monotonic() < end, found
            await asyncio.sleep(0.02)
        return [*found.values()]

    async def dead_letters(self) -> dict[str, str]:
        found = self.mongo.deadletters.find()
        return {event_id(doc["record"]): doc["error"] async for doc in found}

    async def counted(self) -> dict[str, float]:
        """Returns the number of attempts and dead letters by outcome."""
        of = samples((await self.metrics.exposition()).decode())
        return {
            outcome: of[f"chat_webhook_deliveries_total default {outcome}"]
            for outcome in ("delivered", "failed", "dead")
        }


Opener = Callable[..., Awaitable[Outlet]]


@pytest_asyncio.fixture
async def outlet(
    mongo_url: str, worker: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Opener]:
    """`await outlet(max_batch=5)`: an Outlet whose sink has these attributes.

    The outlets of a test share a database, its own or that of `server`.
    """
    monkeypatch.setitem(SINKS, "batch", Registered(lambda: BatchSink))
    database = f"{worker}-sinks-{time.time_ns()}"
    async with AsyncExitStack() as stack:

        async def open_outlet(
            *, server: ChatServer | None = None, retry: Retry = QUICK, **attributes: Any
        ) -> Outlet:
            mongo = Mongo(mongo_url, server.env["MONGO_DATABASE"] if server else database)
            stack.push_async_callback(mongo.close)
            await mongo.start()
            sink = build(ENDPOINT)
            assert isinstance(sink, BatchSink)
            for name, value in attributes.items():
                setattr(sink, name, value)
            made = Outlet(mongo, sink, retry)
            opened.append(made)
            return made

        opened: list[Outlet] = []
        yield open_outlet
        for made in opened:
            if not made.sink.closed:
                await made.stop()
            assert made.sink.broken == []
            assert made.sink.closed == 1
