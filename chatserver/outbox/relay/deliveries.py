"""The deliveries to one endpoint: lanes side by side, each in order, a failing one held alone."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from ...clock import now
from ...mongo import Document, Mongo, PyMongoError, deadline, is_down
from ..event import Event
from ..pending import Pending, due_in_lane
from ..sinks.sink import Delivery, Sink
from .key_queue import Lane
from .key_queues import AHEAD, Lanes
from .partition_leases import Leases
from .results import Hold, Records

log = structlog.get_logger(__name__)

LANES_PER_PLACE = 4
"""While one lane sends, others are read, and wait for the record of what they have sent."""
ALL_FAIL = 10
"""So many failures after each other: it is not the lanes that fail but the endpoint."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Exponential back-off with full jitter: the mean of the pauses is `first_s`, twice that, …

    After Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """

    first_s: float = 1.0
    max_s: float = 3600.0
    give_up_s: float = 24 * 3600.0

    def pause(self, attempts: int) -> float:
        """Seconds until the next attempt, after so many failed ones."""
        longest = 2 * self.first_s * 2.0 ** min(attempts - 1, 40)
        return random.uniform(0.0, min(longest, self.max_s))


class Deliveries:
    """An event is sent when the one before it in its lane was delivered, and that is on record. So a
    crash repeats one event per lane at most, and LANES_PER_PLACE * `concurrency` in all: those that
    were in flight or not yet on record. `concurrency` are in flight at most.

    An event is given up at its first failure more than `retry.give_up_s` after it happened, or after
    its lane began to fail, whichever is later.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        mongo: Mongo,
        leases: Leases,
        records: Records,
        describe: Callable[[Document], Awaitable[Event]],
        retry: Retry,
        *,
        concurrency: int,
        observe: Callable[[str, str, float, float], None],
    ) -> None:
        self.name = name
        self._sink = sink
        self._mongo = mongo
        self._leases = leases
        self._records = records
        self._describe = describe
        self._retry = retry
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(concurrency)
        """For what is in flight."""
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self.lanes = Lanes(self.pump)
        self._at_work: dict[asyncio.Task[None], Lane] = {}
        self._failures = 0
        """Since the last success, of whatever lane."""
        self._stopping = False

    # --- which lanes ----------------------------------------------------------------------------

    def hold(self, hold: Hold) -> None:
        """Go on with a hold that another relay, or this one before, has put on record."""
        if hold.partition not in self.lanes.partitions:
            return
        if lane := self.lanes.get(hold.lane):
            # It is still at work from before, and may have succeeded: then it removes what is on record.
            lane.since, lane.behind = lane.since or hold.since, True
            return
        self._failures += hold.attempts
        lane = self.lanes.add(hold.lane)
        lane.since, lane.attempts, lane.backoff = hold.since, hold.attempts, hold.attempts
        self.lanes.hold(lane, (hold.next_at - now()).total_seconds())

    def drop(self, held: frozenset[int]) -> None:
        """Begin afresh with these partitions: what is in flight ends, nothing else is remembered."""
        self.lanes.drop(held, set(self._at_work.values()))

    def is_quiet(self, partition: int) -> bool:
        """Whether nothing of a partition is in flight."""
        return all(lane.partition != partition for lane in self._at_work.values())

    @property
    def in_flight(self) -> int:
        return len(self._at_work)

    async def stop(self) -> None:
        """Begin no new delivery; return when those under way have ended and are on record."""
        self._stopping = True
        self.lanes.close()
        if self._at_work:
            await asyncio.wait(self._at_work)

    # --- sending it -----------------------------------------------------------------------------

    def pump(self) -> None:
        """Give free places to lanes that are ready."""
        while (
            len(self._at_work) < LANES_PER_PLACE * self._concurrency
            and self._leases.valid
            and not self._stopping
            and (lane := self.lanes.next())
        ):
            task = self._loop.create_task(self._work(lane))
            self._at_work[task] = lane
            task.add_done_callback(self._worked)

    async def _work(self, lane: Lane) -> None:
        """One lane's turn."""
        for _ in range(AHEAD):
            if self._stopping or not self._is_ours(lane):
                return
            if not lane.queue and lane.behind:
                await self._read(lane)
                continue
            if not lane.queue:
                if lane.since is not None:
                    await self._records.released(self.name, lane.id)
                    lane.succeeded()
                return
            if not await self._send(lane, self.lanes.head(lane)):
                return

    def _is_ours(self, lane: Lane) -> bool:
        return self._leases.valid and not lane.dropped

    async def _read(self, lane: Lane) -> None:
        lane.behind, lane.reading = False, True
        most = self.lanes.room
        try:
            async with deadline():
                found = await due_in_lane(self._mongo, self.name, lane.partition, lane.id, most)
        except (PyMongoError, TimeoutError) as error:
            lane.behind = True
            if not is_down(error):
                raise
            await asyncio.sleep(1.0)
            return
        finally:
            lane.reading = False
        self.lanes.put(lane, found)
        if len(found) >= most:
            lane.behind = True

    async def _send(self, lane: Lane, pending: Pending) -> bool:
        """Send the head of a lane once. Whether the lane may go on."""
        try:
            event = await self._event(pending)
        except (PyMongoError, TimeoutError) as error:
            if not is_down(error):
                raise
            self.lanes.put_back(lane, pending)
            await asyncio.sleep(1.0)
            return True
        except Exception:  # a record that cannot be told of must not hold up what is behind it
            log.exception("an event cannot be made of a record", record=pending.id)
            await self._bury(lane, pending, "The record cannot be read.")
            return True
        async with self._places:
            if not self._is_ours(lane):
                self.lanes.forget(lane)
                return False
            began = time.perf_counter()
            delivery = await self._sink.deliver(event)
            since = (now() - pending.at).total_seconds()
            self._observe(self.name, delivery.outcome, time.perf_counter() - began, since)
        if delivery.outcome == "delivered":
            await self._records.delivered(
                self.name, pending, held_lane=lane.id if lane.since else None
            )
            lane.succeeded()
            self._succeeded()
            return True
        self._failures += 1
        lane.attempts += 1
        lane.backoff += 1
        lane.since = lane.since or now()
        too_old = now() - max(pending.at, lane.since) >= timedelta(seconds=self._retry.give_up_s)
        if (delivery.outcome == "gone" or too_old) and self._is_ours(lane):
            await self._bury(lane, pending, delivery.says)
            return True
        await self._hold(lane, pending, delivery)
        return False

    async def _event(self, pending: Pending) -> Event:
        if pending.collection == "outbox":
            return Event.from_doc(pending.doc)
        return await self._describe(pending.doc)

    async def _bury(self, lane: Lane, pending: Pending, says: str) -> None:
        log.error(
            "an event was given up",
            endpoint=self.name,
            record=pending.id,
            attempts=lane.attempts,
            reason=says,
        )
        self._observe(self.name, "dead", 0.0, 0.0)
        await self._records.dead(self.name, pending, lane.attempts, says)
        lane.attempts = 0

    async def _hold(self, lane: Lane, head: Pending, delivery: Delivery) -> None:
        pause = max(self._retry.pause(lane.backoff), delivery.retry_after_s)
        lane.not_before = self._loop.time() + delivery.retry_after_s
        hold = Hold(
            endpoint=self.name,
            lane=lane.id,
            partition=lane.partition,
            since=lane.since or now(),
            attempts=lane.attempts,
            next_at=now() + timedelta(seconds=pause),
            error=delivery.says,
        )
        if self._failures < ALL_FAIL:
            log.warning("a delivery failed", endpoint=self.name, reason=delivery.says, again=pause)
        elif self._failures == ALL_FAIL:
            log.error("nothing can be delivered", endpoint=self.name, reason=delivery.says)
        if self._is_ours(lane):
            # Else it is for the other relay to say: nobody would remove this one's record.
            await self._records.held(hold, head)
        # A thousand failing lanes keep no events in memory.
        self.lanes.forget(lane)
        lane.pause = pause

    def _succeeded(self) -> None:
        if self._failures >= ALL_FAIL:
            log.info("events can be delivered again", endpoint=self.name)
            # It is back: nobody need wait for the end of a pause that was made for its absence, now
            # or after the attempt that is under way.
            for lane in self.lanes:
                lane.backoff = 0
                if lane.held:
                    lane.let_go()
                    self.lanes.hold(lane, lane.not_before - self._loop.time())
        self._failures = 0

    def _worked(self, task: asyncio.Task[None]) -> None:
        lane = self._at_work.pop(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a lane stopped", endpoint=self.name, lane=lane.id, exc_info=error)
            self.lanes.forget(lane)
            lane.pause = self._retry.pause(1)
        self.lanes.done(lane)
        self.pump()
