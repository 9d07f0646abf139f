"""Keys that expire a fixed time after their last use."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ExpiryQueue(Generic[K]):
    """Calls `expired(key)` when `keep_for_s` seconds have passed since the last `keep(key)`.

    All keys are kept for the same time, so the queue is always in expiry order and needs only one timer.
    """

    def __init__(
        self, keep_for_s: float, expired: Callable[[K], None], *, slack_s: float | None = None
    ) -> None:
        """Requires a running event loop. A key may expire up to `slack_s` late, by default a thirtieth of
        `keep_for_s`, so that thousands of keys that expire shortly after each other share a timer."""
        self._keep_for_s = keep_for_s
        self._slack_s = keep_for_s / 30 if slack_s is None else slack_s
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._ends: OrderedDict[K, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, key: K) -> None:
        self._ends[key] = self._loop.time() + self._keep_for_s
        self._ends.move_to_end(key)
        if self._timer is None:
            self._timer = self._loop.call_later(self._keep_for_s, self._expire)

    def discard(self, key: K) -> bool:
        """Drop the key without calling `expired`. Returns True if the key was in the queue."""
        return self._ends.pop(key, None) is not None

    def _expire(self) -> None:
        self._timer = None
        at = self._loop.time()
        while self._ends:
            key, ends = next(iter(self._ends.items()))
            if ends > at:
                self._timer = self._loop.call_at(max(ends, at + self._slack_s), self._expire)
                return
            del self._ends[key]
            self._expired(key)
