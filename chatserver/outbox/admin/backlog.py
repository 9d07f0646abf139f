"""How much waits for an endpoint, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...mongo import Mongo
from ..endpoints import endpoint_of, slots_of

COUNT_LIMIT = 100_000
"""Events that are counted; 50 ms."""
OLDEST_LIMIT = 10_000
"""Events among which the oldest is looked for: the index has them by ordering key and not by time."""
NAMES_LIMIT = 100


class Backlog:
    """What is due, over both collections of records."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._collections = (mongo.log, mongo.outbox)

    async def count(self, endpoint: str) -> int:
        """Events that wait for the endpoint; no more than COUNT_LIMIT are counted."""
        count = 0
        for collection in self._collections:
            if count < COUNT_LIMIT:
                left = COUNT_LIMIT - count
                count += await collection.count_documents(_due(endpoint), limit=left)
        return count

    async def oldest(self, endpoint: str) -> datetime | None:
        """When the oldest event happened that waits for the endpoint.

        Exact while at most OLDEST_LIMIT wait in each collection; else the oldest of so many, and of
        the first events of the ordering keys that fail.
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
        """The endpoints for which something waits, configured or not; at most NAMES_LIMIT."""
        names: set[str] = set()
        for collection in self._collections:
            after = ""
            while len(names) < NAMES_LIMIT:
                # The first in the order of the index: one look-up per name, however much is due.
                doc = await collection.find_one({"due": {"$gt": after}}, {"due": 1}, hint="pending")
                if doc is None:
                    break
                name = endpoint_of(min(slot for slot in doc["due"] if slot > after))
                names.add(name)
                after = f"{name};"  # behind every slot of this name
        return names


def _due(endpoint: str) -> Mapping[str, Any]:
    return {"due": {"$in": slots_of(endpoint)}}
