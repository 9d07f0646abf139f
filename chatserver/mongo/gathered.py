"""Reads that are asked for at the same time, made as one: a thousand users who connect cost a few reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

AT_ONCE = 2
"""Reads of one kind that are under way."""
PAUSE_S = 0.01
"""The first read is made at once. What is asked for within this time after its beginning forms the next one."""
MAX_PAUSE_S = 0.05
"""Of a busy database or node, which needs larger batches: twice as long as the last read took, at most this."""
BATCH = 64


class GatheredReads(Generic[T]):
    """Reads values by key. A read begins after it was asked for, so it sees all that was stored before.

    `read(keys)` returns the values that there are. If it fails, so do all that asked.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._read = read
        self._waiting: dict[str, list[asyncio.Future[T | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = 0
        """Tasks that will still look for what waits. A task is in `_tasks` for a moment after its last look."""
        self._next_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._tasks)

    async def get(self, key: str) -> T | None:
        value: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(value)
        if self._reading < AT_ONCE:
            self._reading += 1
            # It begins in the next turn of the loop, with all keys of this one.
            task = asyncio.create_task(self._keep_reading())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await value

    async def _keep_reading(self) -> None:
        try:
            while self._waiting:
                await self._read_next()
        finally:
            self._reading -= 1

    async def _read_next(self) -> None:
        loop = asyncio.get_running_loop()
        began = max(loop.time(), self._next_at)
        self._next_at = began + PAUSE_S
        await asyncio.sleep(began - loop.time())
        keys = list(islice(self._waiting, BATCH))
        asked = [(key, value) for key in keys for value in self._waiting.pop(key)]
        try:
            found = await self._read(keys)
        except Exception as error:  # raised to all that asked
            for _, value in asked:
                if not value.done():
                    value.set_exception(error)
        else:
            for key, value in asked:
                if not value.done():
                    value.set_result(found.get(key))
        ended = loop.time()
        self._next_at = max(self._next_at, ended + min(MAX_PAUSE_S, 2 * (ended - began)))
