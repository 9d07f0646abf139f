"""Event loop lag: the delay of everything that this process does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

EVERY_S = 0.1


class Lag:
    """Calls `observe` ten times a second with the seconds by which a timer was late, until `close`."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._wait()

    def close(self) -> None:
        self._timer.cancel()

    def _wait(self) -> None:
        # Not the loop's clock: uvloop's does not advance within a turn of the loop.
        self._due = time.perf_counter() + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._came)

    def _came(self) -> None:
        self._observe(max(0.0, time.perf_counter() - self._due))
        self._wait()
