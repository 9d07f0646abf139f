"""Time as the people of the demo have it."""

from __future__ import annotations

import asyncio
import random


class Pace:
    """Seconds become shorter by `factor`. When it is `over`, nobody rests any more."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self.over = asyncio.Event()

    async def rest(self, seconds: float, unless: asyncio.Event | None = None) -> None:
        """Less when it is over, or `unless` comes about."""
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
