"""What is kept for a while after its last use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Linger(Generic[K]):
    """`over(key)` is called `seconds` after the last `keep(key)`. All have the same time, so they are in
    the order in which they end, and one timer does for all."""

    def __init__(self, seconds: float, over: Callable[[K], None]) -> None:
        self._seconds = seconds
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._ends: dict[K, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, key: K) -> None:
        self._ends.pop(key, None)
        self._ends[key] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        at = self._loop.time()
        while self._ends:
            key, ends = next(iter(self._ends.items()))
            if ends > at:
                # Not at once, for one after the other: there may be thousands.
                self._timer = self._loop.call_at(max(ends, at + self._seconds / 30), self._ring)
                return
            del self._ends[key]
            self._over(key)
