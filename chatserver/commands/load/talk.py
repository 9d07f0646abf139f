"""Sends the messages of a run, and records when each was due."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time

from .crowd import Crowd
from .plan import Plan
from .tally import Tally

PATIENCE_S = 15.0
"""Seconds to wait at the end for messages in flight."""
MOST_UNDER_WAY = 20_000


class DueTimes:
    """The time at which each message of this run was due, by its clientMessageId."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._due: list[float] = []

    def next(self, due: float) -> str:
        self._due.append(due)
        return f"{self._run}-{len(self._due) - 1}"

    def due(self, once: str | None) -> float | None:
        """None for a message that this run did not send."""
        run, _, number = (once or "").partition("-")
        return self._due[int(number)] if run == self._run else None


class Talk:
    def __init__(self, plan: Plan, tally: Tally, due_times: DueTimes, crowd: Crowd) -> None:
        self._plan = plan
        self._tally = tally
        self._due_times = due_times
        self._crowd = crowd
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send messages for the planned time."""
        end = time.perf_counter() + self._plan.seconds
        if self._plan.rate is not None:
            await self._by_the_clock(end, self._plan.rate)
            return
        numbers = itertools.count()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._plan.in_flight):
                group.create_task(self._one_after_the_other(end, numbers))

    async def answered(self) -> None:
        """Return when all messages are answered, or after PATIENCE_S."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=PATIENCE_S)

    async def _by_the_clock(self, end: float, rate: float) -> None:
        began = time.perf_counter()
        for n in itertools.count():
            due = began + n / rate
            if due >= end:
                return
            # Also when late (sleep(0)): other tasks must get a turn.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if len(self._sending) < MOST_UNDER_WAY:
                # Measured from the due time: otherwise a delay of this program or the server would not
                # show.
                self._begin(n, due)
            else:
                # With more in flight, the memory of this program would be measured.
                self._tally.errors["not sent: too many in flight"] += 1

    async def _one_after_the_other(self, end: float, numbers: itertools.count[int]) -> None:
        while (due := time.perf_counter()) < end:
            # A task of its own, so that the send completes if this loop is cancelled. With a timeout, in
            # case the server no longer accepts this user.
            task = self._begin(next(numbers), due)
            await asyncio.wait([task], timeout=end + PATIENCE_S - due)

    def _begin(self, n: int, due: float) -> asyncio.Task[None]:
        task = asyncio.create_task(self._say(n, due))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    async def _say(self, n: int, due: float) -> None:
        conversation, user = self._crowd.somebody(n)
        if user is None:
            self._tally.errors["not sent: no member connected"] += 1
            return
        once = self._due_times.next(due)
        self._tally.sent += 1
        text = f"{once} ".ljust(self._plan.size, "·")
        seq = await user.say(conversation, text, once, due)
        if seq is not None:
            self._crowd.acknowledged(conversation, seq)
