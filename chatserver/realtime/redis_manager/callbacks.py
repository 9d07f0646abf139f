"""The callbacks that wait for answers of clients of other nodes."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Any

Callback = Callable[..., Any]

FIRST = 2**30
"""Numbers of packets that are answered across nodes: above those that each node counts for its own, and
not above what clients in some languages have 32 bits for."""


class Callbacks:
    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        # From anywhere: the numbers of two nodes for one client should not meet.
        self._numbers = itertools.count(secrets.randbits(30))
        self._open: dict[int, tuple[Callback, bool, asyncio.TimerHandle]] = {}

    def expect(self, callback: Callback, *, once: bool) -> int:
        """A number for the packet. `once`: one client is asked."""
        number = FIRST + next(self._numbers) % FIRST
        timer = asyncio.get_running_loop().call_later(self._timeout, self._open.pop, number, None)
        self._open[number] = (callback, once, timer)
        return number

    def answered(self, number: int) -> Callback | None:
        """What to call; None when it is too late."""
        if number not in self._open:
            return None
        callback, once, timer = self._open[number]
        if once:
            timer.cancel()
            del self._open[number]
        return callback

    def forget(self) -> None:
        for _, _, timer in self._open.values():
            timer.cancel()
        self._open.clear()
