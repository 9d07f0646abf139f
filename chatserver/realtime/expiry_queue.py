"""Keys that expire a fixed time after their last use."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ExpiryQueue(Generic[K]):
    """Calls `expired(key)` when `keep_for_s` seconds have passed since the last `keep(key)`.

    All keys are kept for the same time, so they are in the order in which they expire, and one timer is
    enough for all of them.
    """

    def __init__(
        self, keep_for_s: float, expired: Callable[[K], None], *, slack_s: float | None = None
    ) -> None:
        """A key may expire `slack_s` late, by default a thirtieth of `keep_for_s`: so that thousands of keys
        that end one after the other do not need a timer each. To be made in a running loop."""
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
        """Keep it no longer, and do not call `expired`. Returns whether it was kept."""
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
