"""Cancels tasks that use the database, and shows for what tasks wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

AGAIN_S = 1.0
INNERMOST = 8
"""Calls of a task that are shown."""


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancels the task, if there is one, and waits until it has ended. Ignores its result and error.

    If the caller is cancelled meanwhile, CancelledError is raised only after the task has ended. The task
    is cancelled again every AGAIN_S: up to Python 3.11 `asyncio.wait_for` can lose a cancellation
    (gh-86296), and PyMongo waits for a server with it.
    """
    cancelled: asyncio.CancelledError | None = None
    while task is not None and not task.done():
        task.cancel()
        try:
            await asyncio.wait([task], timeout=AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def waiting() -> list[str]:
    """Returns for what all tasks of this process wait: their innermost calls, with the number of such tasks."""
    chains: Counter[str] = Counter()
    for task in asyncio.all_tasks():
        calls: list[str] = []
        awaited: Any = task.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            calls.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            awaited = awaited.cr_await
        chains[" > ".join(calls[-INNERMOST:])] += 1
    return [f"{count} x {chain}" for chain, count in chains.most_common()]
