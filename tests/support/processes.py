"""The state of processes, as the kernel reports it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from .patience import PATIENCE_S


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def until(true: Callable[[], bool], within: float = PATIENCE_S) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
