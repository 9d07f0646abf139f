"""A socket lives no longer than its token."""

from __future__ import annotations

import asyncio
import time

from ...errors import TokenExpired
from ...realtime import Connection
from ...realtime.rooms.rooms import Rooms

STEP_S = 86_400.0
"""A timer of years would not survive the loop's arithmetic: long waits go in steps."""


class Expiry:
    """Dismisses a socket when its token expires, unless a fresh one has been set before."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    def set(self, connection: Connection, expires_at: float) -> None:
        """`expires_at` in Unix seconds."""
        self.cancel(connection)
        left = expires_at - time.time()
        if left <= 0:
            self._rooms.dismiss(connection, TokenExpired())
            return
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(
            min(left, STEP_S), self.set, connection, expires_at
        )

    def cancel(self, connection: Connection) -> None:
        if timer := self._timers.pop(connection, None):
            timer.cancel()
