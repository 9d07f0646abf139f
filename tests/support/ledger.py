"""The state of a server's webhooks in MongoDB: recorded events, due events, back-offs and dead letters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from .patience import PATIENCE_S
from .receiver import Event
from .relays import NOBODY
from .servers import ChatServer

RECORDING = {"WEBHOOK_URL": NOBODY, "WEBHOOK_RELAY": "off"}
"""Settings with which a server records events and delivers none. Without an endpoint it would record none."""
IN_LOG = ("message", "edit", "delete", "end", "reaction.added", "reaction.removed")
"""Kinds of log entries that are events for the Master Service."""


class Ledger:
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self.client = database.client
        self.log = database["log"]
        self.outbox = database["outbox"]
        self.holds = database["holds"]
        self.deadletters = database["deadletters"]
        self.relays = database["relays"]
        self.jobs = database["jobs"]
        self.users = database["users"]
        self.nodes = database["nodes"]

    async def recorded(self) -> dict[str, list[str]]:
        """Returns the ids of all events by ordering key, in the order of their records."""
        ids: dict[str, list[str]] = {}
        where = {"kind": {"$in": IN_LOG}}
        async for doc in self.log.find(where, {"conversationId": 1}):
            ids.setdefault(doc["conversationId"], []).append(f"evt_{doc['_id']}")
        async for doc in self.outbox.find({}, {"key": 1}):
            ids.setdefault(doc["key"], []).append(f"evt_{doc['_id']}")
        return {key: sorted(event_ids) for key, event_ids in ids.items()}

    async def due(self) -> int:
        where = {"due": {"$exists": True}}
        return sum(
            [await collection.count_documents(where) for collection in (self.log, self.outbox)]
        )

    async def settled(self, within: float = PATIENCE_S) -> None:
        """Waits until nothing is due and no ordering key backs off."""
        end = time.monotonic() + within
        while True:
            due, backoffs = await self.due(), await self.holds.find().to_list()
            if not due and not backoffs:
                return
            assert time.monotonic() < end, (due, backoffs)
            await asyncio.sleep(0.05)

    async def presence(self) -> dict[str, list[str]]:
        """Returns the recorded online and offline events of each user, in order."""
        told: dict[str, list[str]] = {}
        where = {"kind": {"$in": ["user.online", "user.offline"]}}
        async for doc in self.outbox.find(where).sort("_id"):
            told.setdefault(doc["key"], []).append(doc["kind"].removeprefix("user."))
        return told

    async def nodes_left(self, number: int, within: float = PATIENCE_S) -> None:
        """Waits until `number` nodes have a lease."""
        async with asyncio.timeout(within):
            while True:
                if await self.nodes.count_documents({}) == number:
                    return
                await asyncio.sleep(0.1)

    async def dead(self) -> dict[str, dict[str, Any]]:
        """Returns the dead letters by event id."""
        return {f"evt_{doc['record']}": doc async for doc in self.deadletters.find()}

    async def shares(self) -> list[int]:
        """Returns the number of partitions of each relay that has any, largest first."""
        owned: dict[str, int] = {}
        async for doc in self.relays.find({"owner": {"$type": "string"}}):
            owned[doc["owner"]] = owned.get(doc["owner"], 0) + 1
        return sorted(owned.values(), reverse=True)


@asynccontextmanager
async def ledger_of(server: ChatServer) -> AsyncIterator[Ledger]:
    url = server.env["MONGO_URL"]
    # As the server reads: without data that only the primary has so far.
    async with AsyncMongoClient[dict[str, Any]](url, readConcernLevel="majority") as client:
        yield Ledger(client[server.env["MONGO_DATABASE"]])


def ids(by_key: dict[str, list[Event]]) -> dict[str, list[str]]:
    """Returns the ids of a receiver's events, in the form of `recorded`."""
    return {key: [event["id"] for event in events] for key, events in by_key.items() if events}
