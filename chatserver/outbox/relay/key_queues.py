"""The books of the lanes to one endpoint: which there are, what waits in them, whose turn it is."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence, Set

from ..endpoints import partition_of
from ..pending import Pending
from .key_queue import Lane

AHEAD = 64
"""Events of one lane that are kept in memory, and sent before another lane gets the place. The rest is
read when they are done: fewer, FEW, while there are EVENTS in memory."""
FEW = 16
LANES = 50_000
EVENTS = 20_000
"""Lanes and events kept in memory per endpoint; others are found when there is room."""
KNOWN = 2 * EVENTS


class Lanes:
    """A lane is here while something is due in it, or it is held; it is `next` when its turn comes.

    `ready` is called soon after there is one more whose turn it is.
    """

    def __init__(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell_ready = ready
        self.partitions: frozenset[int] = frozenset()
        """Those to work on."""
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._waiting = 0
        """Events in all queues."""
        self._known: OrderedDict[str, None] = OrderedDict()
        """Ids of events that were read: the database may still be about to tell of them."""
        self._closed = False
        self.scanning = False
        """What is due is still being read: a lane that turns up may have something older due."""
        self.more = False
        """There was no room for all lanes."""

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    # --- what is due ----------------------------------------------------------------------------

    def take(self, lane_id: str, pending: Pending) -> None:
        """An event that has just been recorded: the last one of its lane so far."""
        if pending.id in self._known:
            return
        lane = self._open(lane_id, behind=self.scanning or self.more)
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
        if lane := self._open(lane_id, behind=True):
            lane.behind = True

    def get(self, lane_id: str) -> Lane | None:
        return self._lanes.get(lane_id)

    def add(self, lane_id: str) -> Lane:
        """A lane that is to be held: it has no turn yet."""
        lane = self._lanes[lane_id] = Lane(lane_id, behind=True)
        return lane

    def drop(self, partitions: frozenset[int], working: Set[Lane]) -> None:
        """Begin afresh with these partitions; of the lanes only those at work are left."""
        self.partitions = partitions
        for lane in list(self):
            lane.let_go()
            self.forget(lane)
            if lane in working:
                lane.dropped = lane.partition not in partitions
            else:
                del self._lanes[lane.id]
        self._ready.clear()

    def close(self) -> None:
        """Nothing is held any more: no turn comes by itself."""
        self._closed = True
        for lane in self:
            lane.let_go()

    def _open(self, lane_id: str, *, behind: bool) -> Lane | None:
        """The lane, with a turn if it is new; None: it is not ours, or there is no room."""
        if lane := self._lanes.get(lane_id):
            return None if lane.dropped else lane
        if partition_of(lane_id) not in self.partitions:
            return None
        if len(self._lanes) >= LANES:
            self.more = True
            return None
        lane = self._lanes[lane_id] = Lane(lane_id, behind=behind)
        self._give_turn(lane)
        return lane

    # --- turns ----------------------------------------------------------------------------------

    def next(self) -> Lane | None:
        """The lane whose turn it is; nobody else gets it until it is `done`."""
        return self._ready.popleft() if self._ready else None

    def done(self, lane: Lane) -> None:
        """The work on a lane has ended: it has another turn, later or after its pause, or is gone."""
        pause, lane.pause = lane.pause, None
        if lane.dropped:
            self.forget(lane)
            del self._lanes[lane.id]
        elif pause is not None:
            # Not before the work has ended: at no time do two work on one lane.
            self.hold(lane, pause)
        elif lane.queue or lane.behind:
            self._ready.append(lane)
        else:
            del self._lanes[lane.id]

    def hold(self, lane: Lane, seconds: float) -> None:
        """Its turn comes after so long."""
        if not self._closed:
            lane.timer = self._loop.call_later(max(0.0, seconds), self._let_go, lane)

    def _let_go(self, lane: Lane) -> None:
        lane.timer = None
        self._give_turn(lane)

    def _give_turn(self, lane: Lane) -> None:
        self._ready.append(lane)
        self._loop.call_soon(self._tell_ready)

    # --- what is in memory ----------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many events of a lane may be read."""
        return AHEAD if self._waiting < EVENTS else FEW

    def put(self, lane: Lane, found: Sequence[Pending]) -> None:
        """What was read of a lane, behind what it has."""
        lane.queue.extend(found)
        self._waiting += len(found)
        for pending in found:
            self._known[pending.id] = None
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def head(self, lane: Lane) -> Pending:
        """Take what is sent next out of its queue."""
        self._waiting -= 1
        return lane.queue.popleft()

    def put_back(self, lane: Lane, head: Pending) -> None:
        lane.queue.appendleft(head)
        self._waiting += 1

    def forget(self, lane: Lane) -> None:
        """What waits is read again when its turn comes."""
        self._waiting -= len(lane.queue)
        lane.queue.clear()
        lane.behind = True
