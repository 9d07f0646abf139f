"""Cancels tasks that use the database."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 1.0


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
