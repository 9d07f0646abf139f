"""Waiting times of the tests: for events that must happen, and for promises of a time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

PATIENCE_S = 60.0
"""The wait for an event that must happen. It measures nothing: a slow machine only waits longer."""


def slowness() -> float:
    """Returns the factor by which operations may take longer than on a quiet machine: at least 1.

    Tests multiply a promised time ("answers within 5 s") by it. It is the number of runnable processes per CPU,
    now or over the last minute.
    """
    last_minute, _, _, tasks, _ = Path("/proc/loadavg").read_text().split()
    running = int(tasks.split("/")[0])
    return max(1.0, float(last_minute) / CPUS, running / CPUS)


CPUS = os.cpu_count() or 1


async def until(read: Callable[[], Awaitable[object]], value: object) -> None:
    """Waits until `read` returns this value, which another process changes."""
    async with asyncio.timeout(PATIENCE_S):
        while await read() != value:  # noqa: ASYNC110  no event of this process
            await asyncio.sleep(0.1)
