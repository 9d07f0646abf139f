"""Reads that are asked for at the same time, made as one: a thousand users who connect cost a few reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

AT_ONCE = 2
"""Reads of one kind that are under way. What is asked for meanwhile forms the next one, without a timer."""
BATCH = 64


class GatheredReads(Generic[T]):
    """Reads values by key. A read begins after it was asked for, so it sees all that was stored before.

    `read(keys)` returns the values that there are. If it fails, so do all that asked.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._read = read
        self._waiting: dict[str, list[asyncio.Future[T | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._tasks)

    async def get(self, key: str) -> T | None:
        value: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(value)
        if len(self._tasks) < AT_ONCE:
            # It begins in the next turn of the loop, with all keys of this one.
            task = asyncio.create_task(self._keep_reading())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await value

    async def _keep_reading(self) -> None:
        while keys := list(islice(self._waiting, BATCH)):
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
