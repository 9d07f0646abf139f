"""Pings for all sessions from one timer: those that came together are pinged together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Pingable(Protocol):
    """What the heartbeat needs of a session."""

    beat: PingedTogether | None
    """The set of sessions that it is pinged with."""
    silent_since: float
    """When the ping went out that has not been answered; 0 when all have."""

    def ping(self, now: float) -> None: ...
    def ping_timed_out(self) -> None: ...


PingedTogether = set[Pingable]


class Heartbeat:
    """Pings each session once per interval, never late and at most 4 % early, and drops whoever has
    not answered `timeout_s` after that.

    Sessions are in sets, and whole sets move from one deadline to the next: what a session costs
    does not depend on how many there are.
    """

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._window_s = min(0.5, interval_s / 50)
        """How much later than the first of a set another session may join it."""
        self.start()

    def start(self) -> None:
        """Begin with nobody, in the loop that runs when the first session comes."""
        self._due: deque[tuple[float, PingedTogether]] = deque()
        self._pinged: deque[tuple[float, PingedTogether]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._opened = 0.0

    def add(self, session: Pingable) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._due or now - self._opened > self._window_s:
            self._open(now, set())
        session.beat = self._due[-1][1]
        session.beat.add(session)
        if self._timer is None:
            self._wait(loop)

    def discard(self, session: Pingable) -> None:
        if session.beat is not None:
            session.beat.discard(session)

    def _open(self, now: float, beat: PingedTogether) -> None:
        self._opened = now
        self._due.append((now + self._interval_s - self._window_s, beat))

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if not self._due:
            return
        next_at = self._due[0][0]
        if self._pinged:
            next_at = min(next_at, self._pinged[0][0] + self._timeout_s)
        self._timer = loop.call_at(next_at, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._pinged and self._pinged[0][0] + self._timeout_s <= now:
            pinged_at, beat = self._pinged.popleft()
            for session in beat:
                # Since an earlier or this ping; one that came after it has time left.
                if 0.0 < session.silent_since <= pinged_at:
                    session.ping_timed_out()
        while self._due and self._due[0][0] <= now:
            _, beat = self._due.popleft()
            if beat:
                for session in beat:
                    session.ping(now)
                self._pinged.append((now, beat))
                self._open(now, beat)
        self._wait(loop)
