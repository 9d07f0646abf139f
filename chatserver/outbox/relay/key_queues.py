"""The in-memory state of every ordering key with undelivered events for one endpoint, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence, Set

from ..endpoints import partition_of
from ..pending import Pending
from .key_queue import KeyQueue

AHEAD = 64
"""Events of one key that are kept in memory, and sent before another key has its turn. The rest is read
when they are done: fewer, FEW, while there are MAX_EVENTS in memory."""
FEW = 16
MAX_QUEUES = 50_000
MAX_EVENTS = 20_000
"""Queues and events kept in memory per endpoint; others are found when there is room."""
MAX_KNOWN = 2 * MAX_EVENTS


class KeyQueues:
    """A queue is here while an event of its key is due, or while the key backs off. It is `next` when its
    turn comes.

    `ready` is called soon after there is one more whose turn it is.
    """

    def __init__(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell_ready = ready
        self.partitions: frozenset[int] = frozenset()
        """Those to work on."""
        self._queues: dict[str, KeyQueue] = {}
        self._ready: deque[KeyQueue] = deque()
        self._waiting = 0
        """Events in all queues."""
        self._known: OrderedDict[str, None] = OrderedDict()
        """Ids of events that were read: the database may still be about to tell of them."""
        self._closed = False
        self.scanning = False
        """What is due is still being read: a key that turns up may have an older event due."""
        self.more = False
        """There was no room for all queues."""

    def __iter__(self) -> Iterator[KeyQueue]:
        return iter(self._queues.values())

    # --- what is due ----------------------------------------------------------------------------

    def take(self, ordering_key: str, pending: Pending) -> None:
        """An event that has just been recorded: the last one of its key so far."""
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
        """Events of a key are due, perhaps more than are known here."""
        if queue := self._open(ordering_key, behind=True):
            queue.behind = True

    def get(self, ordering_key: str) -> KeyQueue | None:
        return self._queues.get(ordering_key)

    def add(self, ordering_key: str) -> KeyQueue:
        """A queue that is to back off: it has no turn yet."""
        queue = self._queues[ordering_key] = KeyQueue(ordering_key, behind=True)
        return queue

    def drop(self, partitions: frozenset[int], working: Set[KeyQueue]) -> None:
        """Begin afresh with these partitions; of the queues only those at work are left."""
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
        """No queue backs off any more: no turn comes by itself."""
        self._closed = True
        for queue in self:
            queue.end_backoff()

    def _open(self, ordering_key: str, *, behind: bool) -> KeyQueue | None:
        """The queue, with a turn if it is new; None: it is not ours, or there is no room."""
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
        """The queue whose turn it is; nobody else gets it until it is `done`."""
        return self._ready.popleft() if self._ready else None

    def done(self, queue: KeyQueue) -> None:
        """The work on a queue has ended: it has another turn, later or after its pause, or is gone."""
        pause, queue.pause = queue.pause, None
        if queue.dropped:
            self.forget(queue)
            del self._queues[queue.ordering_key]
        elif pause is not None:
            # Not before the work has ended: at no time do two work on one queue.
            self.back_off(queue, pause)
        elif queue.events or queue.behind:
            self._ready.append(queue)
        else:
            del self._queues[queue.ordering_key]

    def back_off(self, queue: KeyQueue, seconds: float) -> None:
        """The turn of the queue comes after so long."""
        if not self._closed:
            queue.timer = self._loop.call_later(max(0.0, seconds), self._backoff_over, queue)

    def _backoff_over(self, queue: KeyQueue) -> None:
        queue.timer = None
        self._give_turn(queue)

    def _give_turn(self, queue: KeyQueue) -> None:
        self._ready.append(queue)
        self._loop.call_soon(self._tell_ready)

    # --- what is in memory ----------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many events of a key may be read."""
        return AHEAD if self._waiting < MAX_EVENTS else FEW

    def put(self, queue: KeyQueue, found: Sequence[Pending]) -> None:
        """What was read of a queue, behind what it has."""
        queue.events.extend(found)
        self._waiting += len(found)
        for pending in found:
            self._known[pending.id] = None
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def head(self, queue: KeyQueue) -> Pending:
        """Take what is sent next out of its queue."""
        self._waiting -= 1
        return queue.events.popleft()

    def put_back(self, queue: KeyQueue, head: Pending) -> None:
        queue.events.appendleft(head)
        self._waiting += 1

    def forget(self, queue: KeyQueue) -> None:
        """What waits is read again when its turn comes."""
        self._waiting -= len(queue.events)
        queue.events.clear()
        queue.behind = True
