"""The driver's client. It does not use the session of a cancelled operation again.

A cancelled write goes on in the database, for example while it waits for a lock, and has its session until then. The
driver (PyMongo 4.20) would give that session to the next operation, which would wait with it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pymongo import AsyncMongoClient


class Client(AsyncMongoClient[dict[str, Any]]):
    def _return_server_session(self, server_session: Any) -> None:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            super()._return_server_session(server_session)
