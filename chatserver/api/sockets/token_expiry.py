"""Disconnects a socket when its token expires."""

from __future__ import annotations

import asyncio
import time

from ...errors import TokenExpired
from ...observability.metrics import Families
from ...realtime import Connection
from ...realtime.rooms.rooms import Rooms

STEP_S = 86_400.0
"""The longest timer. The event loop cannot handle timers of years, so longer waits take several steps."""


class Expiry:
    """Disconnects a socket when its token expires, unless a new token was set before."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    def watch(self, metrics: Families) -> None:
        metrics.memory("timers of tokens", lambda: len(self._timers), None)

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

    def renew(self, connection: Connection, expires_at: float) -> None:
        """Set a new time, unless the client has disconnected: its timer would keep the connection in memory until
        the token expires."""
        if connection in self._timers:
            self.set(connection, expires_at)

    def cancel(self, connection: Connection) -> None:
        if timer := self._timers.pop(connection, None):
            timer.cancel()
