"""Pings all sessions with one timer. Sessions that start at about the same time are pinged together."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Pingable(Protocol):
    """The part of a session that the heartbeat uses."""

    beat: PingedTogether | None
    """The set of sessions that this one is pinged with."""
    silent_since: float
    """When the oldest unanswered ping was sent; 0 if there is none."""

    def ping(self, now: float) -> None: ...
    def ping_timed_out(self) -> None: ...


PingedTogether = set[Pingable]


class Heartbeat:
    """Pings each session once per interval, never late and at most 4 % early. Drops sessions that do not answer
    a ping within `timeout_s`.

    Whole sets of sessions move from one deadline to the next, so the cost per session does not depend on the
    number of sessions.
    """

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._window_s = min(0.5, interval_s / 50)
        """How much later than the first session of a set another session may join it."""
        self.start()

    def start(self) -> None:
        """Reset to no sessions. Called again when the server runs in another event loop."""
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
                # Unanswered since this ping or an earlier one. A session pinged later still has time.
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
