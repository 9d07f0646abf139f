"""Callbacks that wait for acknowledgements from clients of other nodes."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Any

Callback = Callable[..., Any]

FIRST = 2**30
"""Packets that are acknowledged across nodes have ids from here on. Each node's own counters stay below. The ids
fit into signed 32-bit integers, which clients in some languages use."""


class Callbacks:
    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        # A random start: two nodes should not use the same ids for one client.
        self._numbers = itertools.count(secrets.randbits(30))
        self._open: dict[int, tuple[Callback, bool, asyncio.TimerHandle]] = {}

    def expect(self, callback: Callback, *, once: bool) -> int:
        """Returns an id for the packet. `once`: only one client receives the packet."""
        number = FIRST + next(self._numbers) % FIRST
        timer = asyncio.get_running_loop().call_later(self._timeout, self._open.pop, number, None)
        self._open[number] = (callback, once, timer)
        return number

    def answered(self, number: int) -> Callback | None:
        """Returns the callback to call, or None after the time-out."""
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
