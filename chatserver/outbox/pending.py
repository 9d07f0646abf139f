"""What is due, read from the database in the order in which it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime

from ..mongo import Collection, Document, Mongo
from .endpoints import slot_of
from .event import TYPE_OF_ENTRY

PAGE = 200

_BEHIND = "~"
"""Sorts behind whatever an id can have after its lane."""


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


def lane_of(record_id: str) -> str:
    return record_id[: record_id.index("-")]


async def due_in_lane(
    mongo: Mongo, endpoint: str, partition: int, lane: str, most: int
) -> list[Pending]:
    """The first of what is due for an endpoint in a lane, in order, at least one if there is any."""
    where = {"due": slot_of(endpoint, partition), "_id": {"$gt": f"{lane}-", "$lt": f"{lane}."}}
    # As of one moment: else one that was recorded in between could hide the one before it.
    both = await mongo.first_records(where, most)
    found = sorted(
        (
            Pending(one.name, doc)
            for one, docs in zip((mongo.log, mongo.outbox), both, strict=True)
            for doc in docs
        ),
        key=lambda pending: pending.id,
    )
    # Past the end of a list that was cut off, the other one may be ahead of what was not read.
    ends = [docs[-1]["_id"] for docs in both if len(docs) == most]
    return [one for one in found if not ends or one.id <= min(ends)]


async def lanes_due(mongo: Mongo, endpoint: str, partitions: Iterable[int]) -> AsyncIterator[str]:
    """The lanes in which something is due for an endpoint; a lane may come twice.

    A lane costs one look-up, however much is due in it.
    """
    for partition in partitions:
        for collection in (mongo.log, mongo.outbox):
            after = ""
            while True:
                where = {"due": slot_of(endpoint, partition), "_id": {"$gt": after}}
                ids = await _ids(collection, where, PAGE)
                for lane in dict.fromkeys(map(lane_of, ids)):
                    yield lane
                if len(ids) < PAGE:
                    break
                after = lane_of(ids[-1]) + _BEHIND


async def _ids(collection: Collection, where: Document, most: int) -> list[str]:
    cursor = collection.find(where, {"_id": 1}).sort("_id", 1).limit(most).batch_size(most)
    return [doc["_id"] async for doc in cursor.hint("pending")]
