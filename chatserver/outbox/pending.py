"""What is due, read from the database in the order in which it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime

from ..mongo import Collection, Document, Mongo
from .endpoints import slot_of
from .event import TYPE_OF_ENTRY

WAKEUP_ID = "bell"
"""The document of `relays` that is written when the relays have to scan again for what is due. Its
`rings` counts how often that was."""

PAGE = 200

_BEHIND = "~"
"""Sorts behind whatever an id can have after its ordering key."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The record of an event that is due: of the log, or of the outbox."""

    collection: str
    doc: Document

    @property
    def id(self) -> str:
        return self.doc["_id"]

    @property
    def at(self) -> datetime:
        return self.doc["at"]

    @property
    def type(self) -> str:
        kind: str = self.doc["kind"]
        return TYPE_OF_ENTRY.get(kind, kind) if self.collection == "log" else kind

    @property
    def key(self) -> str:
        return self.doc["conversationId"] if self.collection == "log" else self.doc["key"]


def ordering_key_of(record_id: str) -> str:
    """The key of a record: events that share it are sent in the order of their ids."""
    return record_id[: record_id.index("-")]


async def due_for_key(
    mongo: Mongo, endpoint: str, partition: int, ordering_key: str, limit: int
) -> list[Pending]:
    """The first events of an ordering key that are due for an endpoint, in order; at least one, if any is due."""
    ids = {"$gt": f"{ordering_key}-", "$lt": f"{ordering_key}."}
    where = {"due": slot_of(endpoint, partition), "_id": ids}
    # As of one moment: else one that was recorded in between could hide the one before it.
    both = await mongo.first_records(where, limit)
    found = sorted(
        (
            Pending(collection.name, doc)
            for collection, docs in zip((mongo.log, mongo.outbox), both, strict=True)
            for doc in docs
        ),
        key=lambda pending: pending.id,
    )
    # Past the end of a list that was cut off, the other one may be ahead of what was not read.
    ends = [docs[-1]["_id"] for docs in both if len(docs) == limit]
    return [pending for pending in found if not ends or pending.id <= min(ends)]


async def keys_due(mongo: Mongo, endpoint: str, partitions: Iterable[int]) -> AsyncIterator[str]:
    """The ordering keys with events that are due for an endpoint; a key may come twice.

    A key costs one look-up, however many events it has.
    """
    for partition in partitions:
        for collection in (mongo.log, mongo.outbox):
            after = ""
            while True:
                where = {"due": slot_of(endpoint, partition), "_id": {"$gt": after}}
                ids = await _ids(collection, where, PAGE)
                for ordering_key in dict.fromkeys(map(ordering_key_of, ids)):
                    yield ordering_key
                if len(ids) < PAGE:
                    break
                after = ordering_key_of(ids[-1]) + _BEHIND


async def _ids(collection: Collection, where: Document, limit: int) -> list[str]:
    cursor = collection.find(where, {"_id": 1}).sort("_id", 1).limit(limit).batch_size(limit)
    return [doc["_id"] async for doc in cursor.hint("pending")]
