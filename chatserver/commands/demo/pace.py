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
        ends = [asyncio.ensure_future(one.wait()) for one in (self.over, unless) if one]
        try:
            await asyncio.wait(
                ends, timeout=seconds / self._factor, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for one in ends:
                one.cancel()

    async def between(
        self, minimum: float, maximum: float, unless: asyncio.Event | None = None
    ) -> None:
        await self.rest(random.uniform(minimum, maximum), unless)
