"""Group commit: which conversations' queued changes are committed next, and how many batches at once.

Sends of many conversations share a batch. The sends of a conversation that is `apart`, because they wait for another
process, have a batch of their own, and so has every change other than a send. A conversation has one batch under way
at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from ...observability.metrics import Families
from .changes import Changes
from .sends import Sends
from .tail import ChangeOp, ConversationChangeOp, ConversationTail, Send, take

BATCH = 128
"""Sends in one insert. Past 64 the cost per message falls little and the wait grows."""
RUN = 64
"""Changes of one conversation in one batch, so that a busy conversation leaves room for others."""
WRITERS = 3
"""Concurrent inserts: enough to keep the journal busy while the next batch forms."""
APART = 16
"""Concurrent inserts of sends that wait for another process."""
STUCK_S = 0.2
"""The time after which a batch of a single conversation no longer counts as a writer, if others need one."""
CHANGERS = 16
"""Concurrent transactions. Each one holds a database connection while it runs."""

Run = Callable[[str, list[ConversationTail], list[Any], Coroutine[Any, Any, None]], None]


class Writers:
    """`run(kind, tails, ops, commit)` starts to commit a batch, and calls `ended` at its end."""

    def __init__(self, sends: Sends, changes: Changes, run: Run) -> None:
        self._sends = sends
        self._changes = changes
        self._run = run
        # Kept: on Python 3.11 each get_running_loop() is a system call.
        self._loop = asyncio.get_running_loop()
        self._ready: deque[ConversationTail] = deque()
        self._ready_apart: deque[ConversationTail] = deque()
        self._ready_changes: deque[ConversationTail] = deque()
        self._in_flight = {"sends": 0, "apart": 0, "changes": 0}
        self._lone: dict[ConversationTail, float] = {}
        """The conversations that are alone in a writer's batch, and when it began."""
        self._freeing: asyncio.TimerHandle | None = None
        self._scheduled = False

    def watch(self, metrics: Families) -> None:
        metrics.memory(
            "conversations that wait",
            lambda: sum(
                map(len, (self._ready, self._ready_apart, self._ready_changes, self._lone))
            ),
            None,
        )
        metrics.gauges(
            "chat_log_batches_in_flight",
            "Batches being committed, by kind.",
            "kind",
            lambda: self._in_flight,
        )
        metrics.gauge(
            "chat_log_conversations_ready", "Conversations that wait for a writer.", self.__len__
        )

    def __len__(self) -> int:
        """The number of conversations whose changes wait for a writer."""
        return len(self._ready) + len(self._ready_apart) + len(self._ready_changes)

    def take_all(self) -> list[ConversationTail]:
        """Returns the conversations whose changes wait. They no longer do."""
        waiting = [*self._ready, *self._ready_apart, *self._ready_changes]
        for ready in (self._ready, self._ready_apart, self._ready_changes):
            ready.clear()
        for tail in waiting:
            tail.ready = False
        return waiting

    def wake(self, tail: ConversationTail) -> None:
        """Start a batch soon, if the conversation has queued changes and nothing prevents it."""
        if tail.queue and not tail.busy and not tail.ready and not tail.pausing:
            tail.ready = True
            if not isinstance(tail.queue[0], Send):
                self._ready_changes.append(tail)
            else:
                (self._ready_apart if tail.apart else self._ready).append(tail)
        if (self._ready or self._ready_changes or self._ready_apart) and not self._scheduled:
            # Not immediately: changes that arrive later in this turn of the loop join the batch.
            self._scheduled = True
            self._loop.call_soon(self._start)

    def ended(self, kind: str, tails: list[ConversationTail]) -> None:
        if kind == "acts":
            kind = "changes"
        elif kind == "sends" and len(tails) == 1 and self._lone.pop(tails[0], None) is None:
            kind = "apart"  # since `_free_writers`
        self._in_flight[kind] -= 1
        self._start()

    def _start(self) -> None:
        self._scheduled = False
        if self._ready and self._in_flight["sends"] >= WRITERS:
            self._free_writers()
        while self._ready and self._in_flight["sends"] < WRITERS:
            self._start_batch()
        while self._ready_apart and self._in_flight["apart"] < APART:
            tail = self._begin(self._ready_apart)
            self._start_sends("apart", [(tail, take(tail.queue, Send, RUN))])
        while self._ready_changes and self._in_flight["changes"] < CHANGERS:
            tail = self._begin(self._ready_changes)
            self._in_flight["changes"] += 1
            if isinstance(tail.queue[0], ConversationChangeOp):
                (op,) = take(tail.queue, ConversationChangeOp, 1)
                self._run("acts", [tail], [op], self._changes.change_conversation(tail, op))
            else:
                changes = take(tail.queue, ChangeOp, RUN)
                self._run("changes", [tail], changes, self._changes.commit(tail, changes))

    def _start_batch(self) -> None:
        runs: list[tuple[ConversationTail, list[Send]]] = []
        room = BATCH
        while self._ready and room > 0:
            tail = self._begin(self._ready)
            run = take(tail.queue, Send, min(RUN, room))
            runs.append((tail, run))
            room -= len(run)
        if len(runs) == 1:
            self._lone[tail] = time.perf_counter()
        self._start_sends("sends", runs)

    def _start_sends(self, kind: str, runs: list[tuple[ConversationTail, list[Send]]]) -> None:
        self._in_flight[kind] += 1
        sends = [send for _, run in runs for send in run]
        self._run(kind, [tail for tail, _ in runs], sends, self._sends.commit(runs))

    @staticmethod
    def _begin(ready: deque[ConversationTail]) -> ConversationTail:
        tail = ready.popleft()
        tail.ready = False
        tail.busy = True
        return tail

    def _free_writers(self) -> None:
        """All writers are busy. Those that have waited long for a single conversation no longer count."""
        stuck = time.perf_counter() - STUCK_S
        for tail in [tail for tail, began in self._lone.items() if began < stuck]:
            if self._in_flight["apart"] < APART:
                del self._lone[tail]
                tail.apart = True
                self._in_flight["sends"] -= 1
                self._in_flight["apart"] += 1
        if self._lone and self._freeing is None:
            self._freeing = self._loop.call_later(STUCK_S, self._free_later)

    def _free_later(self) -> None:
        self._freeing = None
        self._start()
