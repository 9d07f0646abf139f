"""The rooms that have applied everything that the last catch-up found in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from ..memory import Memory

WAIT_S = 0.2


class CaughtUp:
    """The rooms that have reached the offsets that the last catch-up found."""

    def __init__(self) -> None:
        self._behind: dict[str, int] = {}
        self._reached = asyncio.Event()

    def watch(self, memory: Memory) -> None:
        memory("rooms that catch up", lambda: len(self._behind), None)

    def __contains__(self, room: str) -> bool:
        return room not in self._behind

    @property
    def by_all(self) -> bool:
        return not self._behind

    async def settled(self, behind: Mapping[str, int]) -> None:
        """Return when each of these rooms has reached its offset, or after WAIT_S. All other rooms have
        caught up."""
        self._behind = dict(behind)
        self._reached.clear()
        if behind:
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await self._reached.wait()

    def reached(self, room: str, offset: int) -> None:
        if self._behind and self._behind.get(room, offset + 1) <= offset:
            self.left(room)

    def left(self, room: str) -> None:
        if self._behind.pop(room, None) is not None and not self._behind:
            self._reached.set()
