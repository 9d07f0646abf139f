"""Keys that expire a fixed time after their last use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ExpiryQueue(Generic[K]):
    """Calls `expired(key)` when `keep_for_s` seconds have passed since the last `keep(key)`.

    All keys are kept for the same time, so they are in the order in which they expire, and one timer is
    enough for all of them.
    """

    def __init__(self, keep_for_s: float, expired: Callable[[K], None]) -> None:
        self._keep_for_s = keep_for_s
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._ends: dict[K, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, key: K) -> None:
        self._ends.pop(key, None)
        self._ends[key] = self._loop.time() + self._keep_for_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._keep_for_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        at = self._loop.time()
        while self._ends:
            key, ends = next(iter(self._ends.items()))
            if ends > at:
                # Not at once, for one after the other: there may be thousands.
                self._timer = self._loop.call_at(
                    max(ends, at + self._keep_for_s / 30), self._expire
                )
                return
            del self._ends[key]
            self._expired(key)
