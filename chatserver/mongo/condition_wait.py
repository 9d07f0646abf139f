"""Replaces how PyMongo waits with a time limit, on Python 3.11.

PyMongo 4.20 waits for a connection and for a server with `asyncio.wait_for`. Up to Python 3.11 that runs the wait in
a task of its own. When a caller is cancelled just after the time limit, `wait_for` leaves that task behind
(gh-86296), which then takes the lock of the pool or of the topology and never releases it: no operation of the
process continues, until it is killed.
"""

from __future__ import annotations

import asyncio
import sys

from pymongo._asyncio_lock import Condition
from pymongo.asynchronous import pool, topology

NAME = "_async_cond_wait"


async def wait(condition: Condition, timeout: float | None) -> bool:  # noqa: ASYNC109  as the replaced one
    """Returns False if there was no notification within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await condition.wait()
    except TimeoutError:
        return False


def replace() -> None:
    """Raises AttributeError if this version of PyMongo waits in another way."""
    if sys.version_info < (3, 12):
        for module in (pool, topology):
            getattr(module, NAME)
            setattr(module, NAME, wait)
