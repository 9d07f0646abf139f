"""When something was last said in each conversation."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from .. import tasks
from ..mongo import CLOSE_S, Mongo, PyMongoError, deadline, is_down

log = structlog.get_logger(__name__)


class Recency:
    """Keeps the order of conversation lists: when something was last said in each.

    It is derived from the log and brought up to date behind it: at once for a quiet conversation,
    at most twice a second for a busy one. `repair` redoes what a crash may have cut off.
    """

    PACE_S = 0.5
    REPAIR_S = 60.0

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._dirty: dict[str, datetime] = {}
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def touch(self, conversation_id: str, at: datetime) -> None:
        self._dirty[conversation_id] = at
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._keep_flushing())

    async def _keep_flushing(self) -> None:
        while self._dirty:
            try:
                await self.flush()
            except (PyMongoError, TimeoutError) as error:
                if not is_down(error):
                    raise
            await asyncio.sleep(self.PACE_S)

    async def flush(self) -> None:
        """Write what is not written yet, and wait for what is being written by another."""
        async with self._lock:
            batch, self._dirty = self._dirty, {}
            if not batch:
                return
            try:
                async with deadline():
                    await self._mongo.raise_dates("conversations", "activityAt", batch)
            except BaseException:  # cancelled or failed: it is still to be written
                self._dirty = {**batch, **self._dirty}
                raise

    async def repair(self) -> None:
        newest = await self._mongo.log.find_one({}, {"at": 1}, sort=[("at", -1)])
        if newest is None:
            return
        since = newest["at"] - timedelta(seconds=self.REPAIR_S)
        cursor = await self._mongo.log.aggregate(
            [
                {"$match": {"at": {"$gte": since}, "kind": "message"}},
                {"$group": {"_id": "$conversationId", "at": {"$max": "$at"}}},
            ]
        )
        latest = {doc["_id"]: doc["at"] async for doc in cursor}
        if latest:
            await self._mongo.raise_dates("conversations", "activityAt", latest)

    async def close(self) -> None:
        await tasks.end(self._task)
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.flush()
        except (PyMongoError, TimeoutError) as error:
            # The next start repairs it.
            log.warning("the order of conversation lists was not written", error=str(error))
