"""The operator's view of the outbox: pending, failing and dead events; replay and drop."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from ...clock import iso, now
from ...errors import Conflict, NotFound
from ...mongo import RETENTION_S, Collection, Document, Mongo, page_cursor
from ..endpoints import Endpoint, shown, slots_of
from ..event import event_id
from .backlog import COUNT_LIMIT, Backlog
from .replay import Replays


@dataclass(frozen=True, slots=True)
class PageOfDeadLetters:
    endpoint: str | None = None
    type: str | None = None
    conversation_id: str | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class OneEndpoint:
    endpoint: str


WORST = 5
"""Failing ordering keys that `status` shows per endpoint."""
SWEEP = 1000
"""Documents that one sweep drops."""
BUDGET_S = 2.0
"""A request that has swept for this long leaves the rest to the next request."""


class OutboxAdmin:
    """Works on the database alone. The relays notice its changes there."""

    def __init__(self, mongo: Mongo, endpoints: Sequence[Endpoint]) -> None:
        self._mongo = mongo
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._backlog = Backlog(mongo)
        self.replays = Replays(mongo, endpoints)

    # --- reading --------------------------------------------------------------------------------

    async def status(self) -> Mapping[str, Any]:
        """`{endpoints, countedUpTo, relays}`.

        Endpoints that are no longer configured are included while they have due events, back-offs or
        dead letters.
        """
        names = list(self._endpoints)
        names += sorted(await self._stored_names() - set(names))
        at = now()
        return {
            "endpoints": [await self._endpoint(name, at) for name in names],
            "countedUpTo": COUNT_LIMIT,
            "relays": await self._relays(),
        }

    async def _stored_names(self) -> set[str]:
        names = await self._backlog.names()
        for collection in (self._mongo.holds, self._mongo.deadletters):
            names.update(await collection.distinct("endpoint"))
        return names

    async def _endpoint(self, name: str, at: datetime) -> Mapping[str, Any]:
        endpoint = self._endpoints.get(name)
        of_endpoint = {"endpoint": name}
        oldest = await self._backlog.oldest(name)
        worst = self._mongo.holds.find(of_endpoint).sort("eventAt", 1).limit(WORST)
        return {
            "name": name,
            "configured": endpoint is not None,
            "url": shown(endpoint.url) if endpoint else None,
            "types": sorted(endpoint.types) if endpoint else None,
            "pending": await self._backlog.count(name),
            "oldestPendingAt": iso(oldest) if oldest else None,
            "lag": max(0.0, (at - oldest).total_seconds()) if oldest else 0.0,
            "failing": await self._mongo.holds.count_documents(of_endpoint, limit=COUNT_LIMIT),
            "worst": [_failing(doc) async for doc in worst],
            "dead": await self._mongo.deadletters.count_documents(of_endpoint, limit=COUNT_LIMIT),
        }

    async def _relays(self) -> list[Mapping[str, Any]]:
        partitions: dict[str, int] = {}
        alive: dict[str, datetime] = {}
        # The relays, too, judge leases by the database's clock.
        fields = {"owner": 1, "until": 1, "alive": {"$gt": ["$until", "$$NOW"]}}
        async for doc in await self._mongo.relays.aggregate([{"$project": fields}]):
            if owner := doc.get("owner"):
                partitions[owner] = partitions.get(owner, 0) + 1
            elif isinstance(doc.get("until"), datetime) and doc["alive"]:
                alive[doc["_id"]] = doc["until"]
        return [
            {"id": relay_id, "partitions": partitions.get(relay_id, 0), "until": iso(until)}
            for relay_id, until in sorted(alive.items())
        ]

    async def dead_letters(
        self, asked: PageOfDeadLetters
    ) -> tuple[list[Mapping[str, Any]], str | None]:
        """A page of dead letters, newest first, and the cursor of the next page."""
        given = {
            "endpoint": asked.endpoint,
            "type": asked.type,
            "key": asked.conversation_id,
        }
        where: Document = {key: value for key, value in given.items() if value is not None}
        if asked.cursor is not None:
            at, last_id = page_cursor.decode(asked.cursor)
            where["diedAt"] = {"$lte": at}
            where["$or"] = [{"diedAt": {"$lt": at}}, {"_id": {"$lt": last_id}}]
        newest = [("diedAt", -1), ("_id", -1)]
        found = self._mongo.deadletters.find(where).sort(newest).limit(asked.limit + 1)
        docs = await found.to_list()
        last = docs[asked.limit - 1] if len(docs) > asked.limit else None
        items = [_dead_letter(doc) for doc in docs[: asked.limit]]
        return items, page_cursor.encode(last["diedAt"], last["_id"]) if last else None

    # --- writing --------------------------------------------------------------------------------

    async def forget(self, name: str) -> tuple[int, bool]:
        """Drop the pending events, back-offs and dead letters of an endpoint that is no longer configured.

        Returns the number dropped, and True if another request must drop the rest. Raises Conflict while
        the endpoint is configured, NotFound if nothing is stored for it.
        """
        if name in self._endpoints:
            raise Conflict("This endpoint is still configured: remove it from the settings first.")
        end = time.monotonic() + BUDGET_S
        dropped = 0
        for sweep in (
            partial(self._drop_due, name),
            partial(self._drop, self._mongo.holds, name),
            partial(self._drop, self._mongo.deadletters, name),
        ):
            while swept := await sweep():
                dropped += swept
                if time.monotonic() > end:
                    return dropped, True
        if not dropped:
            raise NotFound("Nothing is stored for an endpoint of this name.")
        return dropped, False

    async def _drop_due(self, name: str) -> int:
        slots = slots_of(name)
        expires_at = now() + timedelta(seconds=RETENTION_S)
        for collection in (self._mongo.log, self._mongo.outbox):
            found = collection.find({"due": {"$in": slots}}, {"_id": 1}).limit(SWEEP)
            if ids := [doc["_id"] async for doc in found]:
                # Log entries are kept as long as their conversation.
                expiry = expires_at if collection is self._mongo.outbox else None
                await self._mongo.not_due(collection.name, ids, slots, expires_at=expiry)
                return len(ids)
        return 0

    async def _drop(self, collection: Collection, name: str) -> int:
        found = collection.find({"endpoint": name}, {"_id": 1}).limit(SWEEP)
        if ids := [doc["_id"] async for doc in found]:
            await self._mongo.remove(collection.name, ids)
        return len(ids)


def _failing(backoff: Document) -> Mapping[str, Any]:
    return {
        "key": backoff["key"],
        "eventId": event_id(backoff["record"]),
        "timestamp": iso(backoff["eventAt"]),
        "since": iso(backoff["since"]),
        "attempts": backoff["attempts"],
        "nextAt": iso(backoff["nextAt"]),
        "error": backoff["error"],
    }


def _dead_letter(doc: Document) -> Mapping[str, Any]:
    of_user = doc["type"].startswith("user.")
    return {
        "id": event_id(doc["record"]),
        "type": doc["type"],
        "endpoint": doc["endpoint"],
        "userId" if of_user else "conversationId": doc["key"],
        "timestamp": iso(doc["eventAt"]),
        "diedAt": iso(doc["diedAt"]),
        "attempts": doc["attempts"],
        "error": doc["error"],
    }
