"""The pauses of the simulated people."""

from __future__ import annotations

import asyncio
import random


class Pace:
    """Divides every pause by `factor`. When `over` is set, pauses end immediately."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self.over = asyncio.Event()

    async def rest(self, seconds: float, unless: asyncio.Event | None = None) -> None:
        """Pause, but no longer than until `over` or `unless` is set."""
        ends = [asyncio.ensure_future(event.wait()) for event in (self.over, unless) if event]
        try:
            await asyncio.wait(
                ends, timeout=seconds / self._factor, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for end in ends:
                end.cancel()

    async def between(
        self, minimum: float, maximum: float, unless: asyncio.Event | None = None
    ) -> None:
        await self.rest(random.uniform(minimum, maximum), unless)
