"""The number of pending events per endpoint, and the age of the oldest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...mongo import Mongo
from ..endpoints import endpoint_of, slots_of

COUNT_LIMIT = 100_000
"""Counting stops here. Counting this many takes 50 ms."""
OLDEST_LIMIT = 10_000
"""The oldest event is searched among this many, because the index is ordered by key and not by time."""
NAMES_LIMIT = 100


class Backlog:
    """Pending events in the log and in the outbox."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._collections = (mongo.log, mongo.outbox)

    async def count(self, endpoint: str) -> int:
        """The number of events that are due for the endpoint, at most COUNT_LIMIT."""
        count = 0
        for collection in self._collections:
            if count < COUNT_LIMIT:
                left = COUNT_LIMIT - count
                count += await collection.count_documents(_due(endpoint), limit=left)
        return count

    async def oldest(self, endpoint: str) -> datetime | None:
        """The time of the oldest event that is due for the endpoint.

        Exact while at most OLDEST_LIMIT events are due in each collection. Beyond that it is the oldest
        of the first OLDEST_LIMIT in each collection and of the first event of each failing ordering key.
        """
        first: list[datetime] = []
        for collection in self._collections:
            cursor = await collection.aggregate(
                [
                    {"$match": _due(endpoint)},
                    {"$limit": OLDEST_LIMIT},
                    {"$group": {"_id": None, "at": {"$min": "$at"}}},
                ]
            )
            first += [doc["at"] async for doc in cursor]
        failing = await self._mongo.holds.find_one(
            {"endpoint": endpoint}, {"eventAt": 1}, sort=[("eventAt", 1)]
        )
        if first and failing:
            first.append(failing["eventAt"])
        return min(first, default=None)

    async def names(self) -> set[str]:
        """The endpoints that have pending events, configured or not; at most NAMES_LIMIT."""
        names: set[str] = set()
        for collection in self._collections:
            after = ""
            while len(names) < NAMES_LIMIT:
                # One query per name, however many events are due.
                doc = await collection.find_one({"due": {"$gt": after}}, {"due": 1}, hint="pending")
                if doc is None:
                    break
                name = endpoint_of(min(slot for slot in doc["due"] if slot > after))
                names.add(name)
                after = f"{name};"  # sorts after every slot of this name
        return names


def _due(endpoint: str) -> Mapping[str, Any]:
    return {"due": {"$in": slots_of(endpoint)}}
