"""Ending tasks that use the database."""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 1.0


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancel the task, if there is one, and return when it has ended, however it did.

    Cancelled itself in the meantime, it is so when the task has ended. More than one cancellation
    can be needed: up to Python 3.11 `asyncio.wait_for` can lose one (gh-86296), and PyMongo waits
    with it for a server to come back.
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
