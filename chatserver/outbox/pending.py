"""Reads the due events from the database, in the order in which they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime

from ..mongo import Collection, Document, Mongo
from .endpoints import slot_of
from .event import TYPE_OF_ENTRY

WAKEUP_ID = "bell"
"""The document of `relays` that is updated to make the relays scan for due events. `rings` counts the
updates."""

PAGE = 200

_BEHIND = "~"
"""Sorts after anything that can follow the ordering key in an id."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The record of a due event, from the log or the outbox."""

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
    """The ordering key in a record's id."""
    return record_id[: record_id.index("-")]


async def due_for_key(
    mongo: Mongo, endpoint: str, partition: int, ordering_key: str, limit: int
) -> list[Pending]:
    """The first due events of an ordering key for an endpoint, in order; at least one, if any is due."""
    ids = {"$gt": f"{ordering_key}-", "$lt": f"{ordering_key}."}
    where = {"due": slot_of(endpoint, partition), "_id": ids}
    # One snapshot of both: otherwise an event could be found without an earlier one that was recorded
    # between the two reads.
    both = await mongo.first_records(where, limit)
    found = sorted(
        (
            Pending(collection.name, doc)
            for collection, docs in zip((mongo.log, mongo.outbox), both, strict=True)
            for doc in docs
        ),
        key=lambda pending: pending.id,
    )
    # A list of `limit` events may have been cut off. Beyond its end, the other list could overtake unread
    # events.
    ends = [docs[-1]["_id"] for docs in both if len(docs) == limit]
    return [pending for pending in found if not ends or pending.id <= min(ends)]


async def keys_due(mongo: Mongo, endpoint: str, partitions: Iterable[int]) -> AsyncIterator[str]:
    """The ordering keys with due events for an endpoint. A key may be yielded twice.

    After a full page it skips to the next key, so a key costs one query however many events it has.
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
