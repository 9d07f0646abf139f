"""Deliveries to one endpoint: ordering keys in parallel, each in order. A failing key backs off alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from ...clock import now
from ...mongo import DatabaseUnavailable, Document, Mongo, PyMongoError
from ...observability.metrics import Families
from ..event import Event, UnknownKind
from ..pending import Pending, due_for_key
from ..sinks.sink import Delivery, Sink
from .batches import Batches, Observe
from .key_queue import KeyQueue
from .key_queues import AHEAD, KeyQueues
from .partition_leases import LEASE_S, TICK_S, Leases
from .results import Backoff, Results

if TYPE_CHECKING:
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)

QUEUES_PER_DELIVERY = 4
"""Queues at work for each event that may be in flight. While one queue sends, others read their events or wait
for their results to be stored."""
FINISH_S = LEASE_S - TICK_S
"""The time that `close` gives events in flight: a lease lasts at least this long without a heartbeat."""
CLOSE_S = 2.0
"""The time that a sink has to close, or to end what was cancelled."""
ALL_FAIL = 10
"""After this many failures in a row, of any keys, the endpoint itself is taken to be down."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Exponential back-off with full jitter: the mean pause is `first_s`, then twice that, and so on.

    After Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    first_s: float = 1.0
    max_s: float = 3600.0
    give_up_s: float = 24 * 3600.0

    def pause(self, attempts: int) -> float:
        """Seconds until the next attempt, after this many failed attempts."""
        longest = 2 * self.first_s * 2.0 ** min(attempts - 1, 40)
        return random.uniform(0.0, min(longest, self.max_s))


class Deliveries:
    """Sends an event when the delivery of the previous event of its ordering key is durably recorded. A sink that
    keeps order gets successive events of a key in one batch.

    A crash repeats at most one event or one such batch per key, and at most QUEUES_PER_DELIVERY times the
    events that the sink takes at a time: those in flight or not yet recorded.

    An event is given up at its first failure more than `retry.give_up_s` after it happened or after its
    key started to fail, whichever is later. The outcome `gone` gives it up immediately.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        mongo: Mongo,
        leases: Leases,
        results: Results,
        describe: Callable[[Document], Awaitable[Event]],
        retry: Retry,
        *,
        observe: Observe,
        tracing: Tracing | None,
    ) -> None:
        self.name = name
        self._sink = sink
        self._mongo = mongo
        self._leases = leases
        self._results = results
        self._describe = describe
        self._retry = retry
        self._batches = Batches(name, sink, self._is_ours, observe, tracing)
        self._max_run = sink.max_batch if sink.keeps_order else 1
        """The number of successive events of a key that may be in one batch."""
        self._max_at_work = QUEUES_PER_DELIVERY * sink.concurrency * sink.max_batch
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self.queues = KeyQueues(self.pump)
        self._at_work: dict[asyncio.Task[None], KeyQueue] = {}
        self._failures = 0
        """Failures since the last success, of all keys together."""
        self._stopping = False

    def watch(self, metrics: Families) -> None:
        metrics.memory(f"{self.name}: at work", lambda: len(self._at_work), self._max_at_work)
        self._batches.watch(metrics)
        self.queues.watch(self.name, metrics)

    # --- keys -----------------------------------------------------------------------------------

    def resume_backoff(self, backoff: Backoff) -> None:
        """Continue a back-off that this or another relay has stored."""
        if backoff.partition not in self.queues.partitions:
            return
        if queue := self.queues.get(backoff.ordering_key):
            # This queue was at work when the partitions changed. If it succeeds, it removes the stored
            # back-off.
            queue.since, queue.behind = queue.since or backoff.since, True
            return
        self._failures += backoff.attempts
        queue = self.queues.add(backoff.ordering_key)
        queue.since = backoff.since
        queue.attempts = queue.backoff_attempts = backoff.attempts
        self.queues.back_off(queue, (backoff.next_at - now()).total_seconds())

    def drop(self, partitions: frozenset[int]) -> None:
        """Start over with these partitions. Events in flight are finished; the rest of the memory is cleared."""
        self.queues.drop(partitions, set(self._at_work.values()))

    def is_quiet(self, partition: int) -> bool:
        """True if no queue of the partition is at work."""
        return all(queue.partition != partition for queue in self._at_work.values())

    @property
    def in_flight(self) -> int:
        return len(self._at_work)

    async def close(self) -> None:
        """Start no new delivery, finish and record those in progress, and close the sink."""
        self._stopping = True
        self.queues.close()
        if self._at_work:
            _, late = await asyncio.wait(self._at_work, timeout=FINISH_S)
            if late:
                log.warning(
                    "the next relay repeats the deliveries that are still in flight",
                    endpoint=self.name,
                )
                for task in late:
                    task.cancel()
                await asyncio.wait(late, timeout=CLOSE_S)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._sink.close()
        except Exception as error:  # the other endpoints' partitions must be given up all the same
            log.error("a sink did not close", endpoint=self.name, error=type(error).__name__)

    # --- sending --------------------------------------------------------------------------------

    def pump(self) -> None:
        """Start work on the next queues, while there is room for more."""
        while (
            len(self._at_work) < self._max_at_work
            and self._leases.valid
            and not self._stopping
            and (queue := self.queues.next())
        ):
            task = self._loop.create_task(self._work(queue))
            self._at_work[task] = queue
            task.add_done_callback(self._work_ended)

    async def _work(self, queue: KeyQueue) -> None:
        """One queue's turn."""
        for _ in range(AHEAD):
            if self._stopping or not self._is_ours(queue):
                return
            if not queue.events and queue.behind:
                await self._read(queue)
                continue
            if not queue.events:
                if queue.since is not None:
                    await self._results.backoff_over(self.name, queue.ordering_key)
                    queue.succeeded()
                return
            if not await self._send(queue):
                return

    def _is_ours(self, queue: KeyQueue) -> bool:
        return self._leases.valid and not queue.dropped

    async def _read(self, queue: KeyQueue) -> None:
        queue.behind, queue.reading = False, True
        limit = self.queues.room
        try:
            async with self._mongo.deadline():
                found = await due_for_key(
                    self._mongo, self.name, queue.partition, queue.ordering_key, limit
                )
        except PyMongoError as error:
            queue.behind = True
            if not isinstance(error, DatabaseUnavailable):
                raise
            await asyncio.sleep(1.0)
            return
        finally:
            queue.reading = False
        self.queues.put(queue, found)
        if len(found) >= limit:
            queue.behind = True

    async def _send(self, queue: KeyQueue) -> bool:
        """Send the next events of a queue once. Returns True if the queue may continue."""
        try:
            pending, events = await self._next_events(queue)
        except UnknownKind as error:
            delivery = Delivery("failed", str(error))
            return await self._given_up(queue, self.queues.head(queue), delivery)
        if not events:
            return True
        deliveries = await self._batches.deliver(queue, events)
        if deliveries is None:
            self.queues.forget(queue)
            return False
        recorded = 0
        for number, delivery in enumerate(deliveries):
            if delivery.outcome == "delivered":
                continue
            await self._delivered(queue, pending[recorded:number])
            recorded = number + 1
            if not await self._given_up(queue, pending[number], delivery):
                return False
            if delivery.outcome == "failed" and pending[recorded:]:
                # Those behind it were not sent, so they are read again. If they were, they must come after it.
                self.queues.forget(queue)
                return True
        await self._delivered(queue, pending[recorded:])
        return True

    async def _next_events(self, queue: KeyQueue) -> tuple[list[Pending], list[Event]]:
        """Take the next events of a queue. Empty if the first one cannot be read now, or never.
        Raises UnknownKind if this version cannot read it."""
        taken: list[Pending] = []
        events: list[Event] = []
        while queue.events and len(events) < self._max_run:
            pending = self.queues.head(queue)
            try:
                events.append(await self._event(pending))
            except Exception as error:
                if events:  # these are sent first; then it is read again
                    self.queues.forget(queue)
                elif isinstance(error, UnknownKind):
                    self.queues.put_back(queue, pending)
                    raise
                elif isinstance(error, DatabaseUnavailable):
                    self.queues.put_back(queue, pending)
                    await asyncio.sleep(1.0)
                elif isinstance(error, PyMongoError):
                    # The database refused the query, which says nothing about the record.
                    raise
                else:  # a bad record must not block the events behind it
                    log.exception("a record cannot be turned into an event", record=pending.id)
                    await self._dead_letter(queue, pending, "The record cannot be read.")
                break
            taken.append(pending)
        return taken, events

    async def _delivered(self, queue: KeyQueue, delivered: Sequence[Pending]) -> None:
        if delivered:
            await self._results.delivered(
                self.name, delivered, ends_backoff_of=queue.ordering_key if queue.since else None
            )
            queue.succeeded()
            self._succeeded()

    async def _given_up(self, queue: KeyQueue, pending: Pending, delivery: Delivery) -> bool:
        """Give up an event that was not delivered (True), or let its key back off (False)."""
        self._failures += 1
        queue.attempts += 1
        queue.backoff_attempts += 1
        queue.since = queue.since or now()
        too_old = now() - max(pending.at, queue.since) >= timedelta(seconds=self._retry.give_up_s)
        if (delivery.outcome == "gone" or too_old) and self._is_ours(queue):
            await self._dead_letter(queue, pending, delivery.detail)
            return True
        await self._back_off(queue, pending, delivery)
        return False

    async def _event(self, pending: Pending) -> Event:
        if pending.collection == "outbox":
            return Event.from_doc(pending.doc)
        return await self._describe(pending.doc)

    async def _dead_letter(self, queue: KeyQueue, pending: Pending, error: str) -> None:
        log.error(
            "an event was given up",
            endpoint=self.name,
            record=pending.id,
            attempts=queue.attempts,
            reason=error,
        )
        self._observe(self.name, "dead", 0.0, 0.0)
        await self._results.dead_letter(self.name, pending, queue.attempts, error)
        queue.attempts = 0

    async def _back_off(self, queue: KeyQueue, head: Pending, delivery: Delivery) -> None:
        pause = max(self._retry.pause(queue.backoff_attempts), delivery.retry_after_s)
        queue.not_before = self._loop.time() + delivery.retry_after_s
        backoff = Backoff(
            endpoint=self.name,
            ordering_key=queue.ordering_key,
            partition=queue.partition,
            since=queue.since or now(),
            attempts=queue.attempts,
            next_at=now() + timedelta(seconds=pause),
            error=delivery.detail,
        )
        if self._failures < ALL_FAIL:
            log.warning(
                "a delivery failed", endpoint=self.name, reason=delivery.detail, again=pause
            )
        elif self._failures == ALL_FAIL:
            log.error("all deliveries fail", endpoint=self.name, reason=delivery.detail)
        if self._is_ours(queue):
            # Otherwise another relay owns the key, and nobody would remove the back-off stored here.
            await self._results.backing_off(backoff, head)
        # A key that backs off keeps no events in memory, however many keys fail.
        self.queues.forget(queue)
        queue.pause = pause

    def _succeeded(self) -> None:
        if self._failures >= ALL_FAIL:
            log.info("events can be delivered again", endpoint=self.name)
            # The endpoint is back, so the pauses that grew while it was down end now. A key that is being
            # sent starts again with the shortest pause. Retry-After still holds.
            for queue in self.queues:
                queue.backoff_attempts = 0
                if queue.backing_off:
                    queue.end_backoff()
                    self.queues.back_off(queue, queue.not_before - self._loop.time())
        self._failures = 0

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        queue = self._at_work.pop(task)
        if not task.cancelled() and (error := task.exception()):
            log.error(
                "the deliveries of an ordering key stopped",
                endpoint=self.name,
                ordering_key=queue.ordering_key,
                exc_info=error,
            )
            self.queues.forget(queue)
            queue.pause = self._retry.pause(1)
        self.queues.done(queue)
        self.pump()
