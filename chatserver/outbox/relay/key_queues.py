"""The in-memory state of every ordering key with undelivered events for one endpoint, and their turns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence, Set

from ...observability.metrics import Families
from ..endpoints import partition_of
from ..pending import Pending
from .key_queue import KeyQueue

AHEAD = 64
"""The number of events of one key that are kept in memory and sent in one turn. Later events are read after
these."""
FEW = 16
"""The number of events of one key that are read while MAX_EVENTS or more are in memory."""
MAX_QUEUES = 50_000
MAX_EVENTS = 20_000
"""Queues and events in memory per endpoint. The others are read from the database when there is room."""
MAX_KNOWN = 2 * MAX_EVENTS


class KeyQueues:
    """Holds the queue of each key that has due events or backs off, and gives the queues turns.

    `ready` is called soon after another queue became ready.
    """

    def __init__(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell_ready = ready
        self.partitions: frozenset[int] = frozenset()
        """The partitions of this relay."""
        self._queues: dict[str, KeyQueue] = {}
        self._ready: deque[KeyQueue] = deque()
        self._waiting = 0
        """Events in all queues."""
        self._known: OrderedDict[str, None] = OrderedDict()
        """Ids of events that were read. The change stream may still deliver them."""
        self._closed = False
        self.scanning = False
        """A scan for due events is in progress, so a new queue may lack older events of its key."""
        self.more = False
        """There was no room for some queues."""

    def watch(self, endpoint: str, metrics: Families) -> None:
        metrics.memory(f"{endpoint}: queues", lambda: len(self._queues) + len(self._ready), None)
        metrics.memory(f"{endpoint}: events", lambda: self._waiting, None)
        metrics.memory(f"{endpoint}: events that were read", lambda: len(self._known), MAX_KNOWN)

    def __iter__(self) -> Iterator[KeyQueue]:
        return iter(self._queues.values())

    # --- due events -----------------------------------------------------------------------------

    def take(self, ordering_key: str, pending: Pending) -> None:
        """Add an event that has just been recorded. It is the newest of its key."""
        if pending.id in self._known:
            return
        queue = self._open(ordering_key, behind=self.scanning or self.more)
        if queue is None:
            return
        if (
            queue.behind
            or queue.reading
            or queue.backing_off
            or len(queue.events) >= AHEAD
            or self._waiting >= MAX_EVENTS
        ):
            queue.behind = True
        else:
            queue.events.append(pending)
            self._waiting += 1

    def look(self, ordering_key: str) -> None:
        """Note that events of a key are due, perhaps some that are not in memory."""
        if queue := self._open(ordering_key, behind=True):
            queue.behind = True

    def get(self, ordering_key: str) -> KeyQueue | None:
        return self._queues.get(ordering_key)

    def add(self, ordering_key: str) -> KeyQueue:
        """Add a queue without giving it a turn: the caller lets it back off."""
        queue = self._queues[ordering_key] = KeyQueue(ordering_key, behind=True)
        return queue

    def drop(self, partitions: frozenset[int], working: Set[KeyQueue]) -> None:
        """Start over with these partitions. Only the queues at work are kept."""
        self.partitions = partitions
        for queue in list(self):
            queue.end_backoff()
            self.forget(queue)
            if queue in working:
                queue.dropped = queue.partition not in partitions
            else:
                del self._queues[queue.ordering_key]
        self._ready.clear()

    def close(self) -> None:
        """End all back-offs. No queue gets a turn by a timer any more."""
        self._closed = True
        for queue in self:
            queue.end_backoff()

    def _open(self, ordering_key: str, *, behind: bool) -> KeyQueue | None:
        """The queue of a key. A new queue gets a turn. None if the key is another relay's or there is no room."""
        if queue := self._queues.get(ordering_key):
            return None if queue.dropped else queue
        if partition_of(ordering_key) not in self.partitions:
            return None
        if len(self._queues) >= MAX_QUEUES:
            self.more = True
            return None
        queue = self._queues[ordering_key] = KeyQueue(ordering_key, behind=behind)
        self._give_turn(queue)
        return queue

    # --- turns ----------------------------------------------------------------------------------

    def next(self) -> KeyQueue | None:
        """The next ready queue. It is not returned again before it is `done`."""
        return self._ready.popleft() if self._ready else None

    def done(self, queue: KeyQueue) -> None:
        """End a queue's turn. It gets another turn, backs off, or is removed if it has nothing to send."""
        pause, queue.pause = queue.pause, None
        if queue.dropped:
            self.forget(queue)
            del self._queues[queue.ordering_key]
        elif pause is not None:
            # Only now that the work is done: two tasks must never work on one queue.
            self.back_off(queue, pause)
        elif queue.events or queue.behind:
            self._ready.append(queue)
        else:
            del self._queues[queue.ordering_key]

    def back_off(self, queue: KeyQueue, seconds: float) -> None:
        """Give the queue its next turn after this long."""
        if not self._closed:
            queue.timer = self._loop.call_later(max(0.0, seconds), self._backoff_over, queue)

    def _backoff_over(self, queue: KeyQueue) -> None:
        queue.timer = None
        self._give_turn(queue)

    def _give_turn(self, queue: KeyQueue) -> None:
        self._ready.append(queue)
        self._loop.call_soon(self._tell_ready)

    # --- events in memory -----------------------------------------------------------------------

    @property
    def room(self) -> int:
        """The number of events of one key that may be read."""
        return AHEAD if self._waiting < MAX_EVENTS else FEW

    def put(self, queue: KeyQueue, found: Sequence[Pending]) -> None:
        """Append events that were read from the database."""
        queue.events.extend(found)
        self._waiting += len(found)
        for pending in found:
            self._known[pending.id] = None
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def head(self, queue: KeyQueue) -> Pending:
        """Remove and return the next event of a queue."""
        self._waiting -= 1
        return queue.events.popleft()

    def put_back(self, queue: KeyQueue, head: Pending) -> None:
        queue.events.appendleft(head)
        self._waiting += 1

    def forget(self, queue: KeyQueue) -> None:
        """Drop the queue's events from memory. They are read again at its next turn."""
        self._waiting -= len(queue.events)
        queue.events.clear()
        queue.behind = True
