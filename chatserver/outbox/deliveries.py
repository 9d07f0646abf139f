"""The deliveries to one endpoint: lanes side by side, each in order, a failing one held alone."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from ..clock import now
from ..mongo import Document, Mongo, PyMongoError, deadline, is_down
from .endpoints import partition_of
from .event import Event
from .lane import Lane
from .leases import Leases
from .pending import Pending, due_in_lane
from .records import Hold, Records
from .sink import Delivery, Sink

log = structlog.get_logger(__name__)

AHEAD = 64
"""Events of one lane that are kept in memory, and sent before another lane gets the place. The rest is
read when they are done: fewer, FEW, while there are EVENTS in memory."""
FEW = 16
LANES_PER_PLACE = 4
"""While one lane sends, others are read, and wait for the record of what they have sent."""
LANES = 50_000
EVENTS = 20_000
"""Lanes and events kept in memory per endpoint; others are found when there is room."""
KNOWN = 2 * EVENTS
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
        self._held: frozenset[int] = frozenset()
        """The partitions to work on."""
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._at_work: dict[asyncio.Task[None], Lane] = {}
        self._waiting = 0
        """Events in all queues."""
        self._failures = 0
        """Since the last success, of whatever lane."""
        self._stopping = False
        self.scanning = False
        """What is due is still being read: a lane that turns up may have something older due."""
        self.more = False
        """There was no room for all lanes."""
        self._known: OrderedDict[str, None] = OrderedDict()
        """Ids of events that were read: the database may still be about to tell of them."""

    # --- what is due ----------------------------------------------------------------------------

    def take(self, lane_id: str, pending: Pending) -> None:
        """An event that has just been recorded: the last one of its lane so far."""
        if pending.id in self._known:
            return
        lane = self._lane(lane_id, behind=self.scanning or self.more)
        if lane is None:
            return
        if (
            lane.behind
            or lane.reading
            or lane.held
            or len(lane.queue) >= AHEAD
            or self._waiting >= EVENTS
        ):
            lane.behind = True
        else:
            lane.queue.append(pending)
            self._waiting += 1

    def look(self, lane_id: str) -> None:
        """Something is due in a lane, perhaps more than is known here."""
        if lane := self._lane(lane_id, behind=True):
            lane.behind = True

    def hold(self, hold: Hold) -> None:
        """Go on with a hold that another relay, or this one before, has put on record."""
        if hold.partition not in self._held:
            return
        if lane := self._lanes.get(hold.lane):
            # It is still at work from before, and may have succeeded: then it removes what is on record.
            lane.since, lane.behind = lane.since or hold.since, True
            return
        self._failures += hold.attempts
        lane = self._lanes[hold.lane] = Lane(hold.lane, behind=True)
        lane.since, lane.attempts, lane.backoff = hold.since, hold.attempts, hold.attempts
        self._hold_for(lane, (hold.next_at - now()).total_seconds())

    def drop(self, held: frozenset[int]) -> None:
        """Begin afresh with these partitions: what is in flight ends, nothing else is remembered."""
        self._held = held
        working = set(self._at_work.values())
        for lane in list(self._lanes.values()):
            lane.let_go()
            self._forget(lane)
            if lane in working:
                lane.dropped = lane.partition not in held
            else:
                del self._lanes[lane.id]
        self._ready.clear()

    def is_quiet(self, partition: int) -> bool:
        """Whether nothing of a partition is in flight."""
        return all(lane.partition != partition for lane in self._at_work.values())

    @property
    def in_flight(self) -> int:
        return len(self._at_work)

    async def stop(self) -> None:
        """Begin no new delivery; return when those under way have ended and are on record."""
        self._stopping = True
        for lane in self._lanes.values():
            lane.let_go()
        if self._at_work:
            await asyncio.wait(self._at_work)

    # --- sending it -----------------------------------------------------------------------------

    def pump(self) -> None:
        """Give free places to lanes that are ready."""
        while (
            self._ready
            and len(self._at_work) < LANES_PER_PLACE * self._concurrency
            and self._leases.valid
            and not self._stopping
        ):
            lane = self._ready.popleft()
            task = self._loop.create_task(self._work(lane))
            self._at_work[task] = lane
            task.add_done_callback(self._worked)

    def _lane(self, lane_id: str, *, behind: bool) -> Lane | None:
        """The lane, made ready if it is new; None: it is not ours, or there is no room."""
        if lane := self._lanes.get(lane_id):
            return None if lane.dropped else lane
        if partition_of(lane_id) not in self._held:
            return None
        if len(self._lanes) >= LANES:
            self.more = True
            return None
        lane = self._lanes[lane_id] = Lane(lane_id, behind=behind)
        self._make_ready(lane)
        return lane

    def _make_ready(self, lane: Lane) -> None:
        self._ready.append(lane)
        self._loop.call_soon(self.pump)

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
            self._waiting -= 1
            if not await self._send(lane, lane.queue.popleft()):
                return

    def _is_ours(self, lane: Lane) -> bool:
        return self._leases.valid and not lane.dropped

    async def _read(self, lane: Lane) -> None:
        lane.behind, lane.reading = False, True
        most = AHEAD if self._waiting < EVENTS else FEW
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
        lane.queue.extend(found)
        self._waiting += len(found)
        if len(found) >= most:
            lane.behind = True
        for pending in found:
            self._known[pending.id] = None
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    async def _send(self, lane: Lane, pending: Pending) -> bool:
        """Send the head of a lane once. Whether the lane may go on."""
        try:
            event = await self._event(pending)
        except (PyMongoError, TimeoutError) as error:
            if not is_down(error):
                raise
            lane.queue.appendleft(pending)
            self._waiting += 1
            await asyncio.sleep(1.0)
            return True
        except Exception:  # a record that cannot be told of must not hold up what is behind it
            log.exception("an event cannot be made of a record", record=pending.id)
            await self._bury(lane, pending, "The record cannot be read.")
            return True
        async with self._places:
            if not self._is_ours(lane):
                self._forget(lane)
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
        self._forget(lane)
        lane.pause = pause

    def _forget(self, lane: Lane) -> None:
        """What waits is read again when its turn comes."""
        self._waiting -= len(lane.queue)
        lane.queue.clear()
        lane.behind = True

    def _hold_for(self, lane: Lane, seconds: float) -> None:
        if self._stopping:
            return
        lane.timer = self._loop.call_later(max(0.0, seconds), self._try_again, lane)

    def _try_again(self, lane: Lane) -> None:
        lane.timer = None
        self._make_ready(lane)

    def _succeeded(self) -> None:
        if self._failures >= ALL_FAIL:
            log.info("events can be delivered again", endpoint=self.name)
            # It is back: nobody need wait for the end of a pause that was made for its absence, now
            # or after the attempt that is under way.
            for lane in self._lanes.values():
                lane.backoff = 0
                if lane.held:
                    lane.let_go()
                    self._hold_for(lane, lane.not_before - self._loop.time())
        self._failures = 0

    def _worked(self, task: asyncio.Task[None]) -> None:
        lane = self._at_work.pop(task)
        pause, lane.pause = lane.pause, None
        if not task.cancelled() and (error := task.exception()):
            log.error("a lane stopped", endpoint=self.name, lane=lane.id, exc_info=error)
            self._forget(lane)
            pause = self._retry.pause(1)
        if lane.dropped:
            self._forget(lane)
            del self._lanes[lane.id]
        elif pause is not None:
            # Not before the task is gone: at no time do two of them work on one lane.
            self._hold_for(lane, pause)
        elif lane.queue or lane.behind:
            self._ready.append(lane)
        else:
            del self._lanes[lane.id]
        self.pump()
