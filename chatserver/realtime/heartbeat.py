"""Pings for all sessions from one timer: a wheel with a slot per second."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session


class Heartbeat:
    """Each session is pinged once per turn of the wheel; one that has not answered `timeout_s` after
    its ping is dropped. A tick costs what its slot holds, whatever the number of sessions."""

    def __init__(self, interval_s: float, timeout_s: float) -> None:
        self._slots: list[set[Session]] = [set() for _ in range(max(1, math.ceil(interval_s)))]
        self._late: list[set[Session]] = [set() for _ in range(max(1, math.ceil(timeout_s)))]
        self._slot_of: dict[Session, int] = {}
        self._tick = 0

    def add(self, session: Session) -> None:
        slot = (self._tick - 1) % len(self._slots)
        self._slots[slot].add(session)
        self._slot_of[session] = slot

    def discard(self, session: Session) -> None:
        slot = self._slot_of.pop(session, None)
        if slot is not None:
            self._slots[slot].discard(session)

    def tick(self) -> None:
        """One second has passed."""
        at = self._tick % len(self._late)
        overdue, self._late[at] = self._late[at], set()
        for session in overdue:
            if session.awaits_pong and not session.closed:
                session.server.drop(session, session.server.reason.PING_TIMEOUT)
        for session in self._slots[self._tick % len(self._slots)]:
            session.ping()
            self._late[at].add(session)
        self._tick += 1

    async def run(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.tick()
