"""The time of the last message in each conversation."""

from __future__ import annotations

from datetime import timedelta

import structlog

from ..mongo import Mongo, PyMongoError
from ..mongo.write_behind import LatestDates

log = structlog.get_logger(__name__)


class Recency(LatestDates):
    """Keeps `activityAt`, the time of a conversation's last message, by which lists are ordered.

    It is derived from the log and written behind it. `repair` makes up for writes that a crash prevented.
    """

    PACE_S = 0.5
    REPAIR_S = 60.0

    def __init__(self, mongo: Mongo) -> None:
        # Other nodes read these dates for their lists, and cannot flush the ones that wait here.
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
