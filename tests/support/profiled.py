"""The operations of the database for requests, recorded by its profiler with the keys and documents that they read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pymongo

from .servers import ChatServer


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `keys` and `documents` are those that it examined, lookups and writes included."""

    collection: str
    name: str
    plan: str
    """The stages of the plan and their indexes, such as `IXSCAN { userId: 1 }`, or `COLLSCAN`."""
    keys: int
    documents: int
    returned: int
    sorts: bool
    """True if it sorted in memory."""
    command: Any


@contextmanager
def profiled(server: ChatServer) -> Iterator[list[Operation]]:
    """Records the operations in the database of a server. They are in the list after the block."""
    operations: list[Operation] = []
    settings = server.env
    with pymongo.MongoClient[Any](settings["MONGO_URL"]) as client:
        database = client[settings["MONGO_DATABASE"]]
        database.command("profile", 2)
        try:
            yield operations
        finally:
            database.command("profile", 0)
            for doc in database["system.profile"].find().sort("ts"):
                operations.append(_operation(doc))
            database.drop_collection("system.profile")


def _operation(doc: Any) -> Operation:
    return Operation(
        doc["ns"].partition(".")[2],
        next(iter(doc.get("command") or {"": None})) if doc["op"] == "command" else doc["op"],
        doc.get("planSummary", ""),
        doc.get("keysExamined", 0),
        doc.get("docsExamined", 0),
        doc.get("nreturned", 0),
        doc.get("hasSortStage", False),
        doc.get("command"),
    )


def of(operations: list[Operation], *collections: str) -> list[Operation]:
    return [each for each in operations if each.collection in collections]
