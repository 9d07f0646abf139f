"""When something was last said in each conversation."""

from __future__ import annotations

from datetime import timedelta

import structlog

from ..mongo import Mongo, PyMongoError
from ..mongo.write_behind import LatestDates

log = structlog.get_logger(__name__)


class Recency(LatestDates):
    """Keeps the order of conversation lists: when something was last said in each.

    It is derived from the log and brought up to date behind it. `repair` redoes what a crash may have
    cut off.
    """

    PACE_S = 0.5
    REPAIR_S = 60.0

    def __init__(self, mongo: Mongo) -> None:
        # Other nodes make their lists of it, too, and cannot flush what waits here.
        super().__init__(mongo, "conversations", "activityAt", pace_s=self.PACE_S, share=0.05)

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
        try:
            await super().close()
        except PyMongoError as error:
            # The next start repairs it.
            log.warning("the order of conversation lists was not written", error=str(error))
