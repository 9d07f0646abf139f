"""Finds the past events that an operator selects, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ...clock import from_unix, now, unix_ms
from ...errors import NotFound, ValidationFailed
from ...mongo import RETENTION_S, Collection, Document, Mongo
from ..endpoints import Endpoint, Routes, endpoint_of
from ..event import TYPE_OF_ENTRY, dead_letter_id, event_id
from ..pending import ordering_key_of


@dataclass(frozen=True, slots=True)
class Selection:
    """The events to replay: those with these ids, or all events that match every other field."""

    ids: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    type: str | None = None
    conversation_id: str | None = None
    dead: bool = False
    """Only dead letters."""
    endpoint: str | None = None
    """None: every endpoint that is configured for the type."""
    cursor: str | None = None


PAGE = 1000

FIELDS = {"kind": 1, "at": 1, "due": 1, "messageId": 1}


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """The record of an event that may be replayed. `slots`: those for which it becomes due."""

    collection: str
    id: str
    type: str
    at: datetime
    slots: tuple[str, ...]
    due: tuple[str, ...]
    """The slots for which it is already due."""
    message_id: str | None
    """The edited message, if the event is an edit."""


@dataclass(frozen=True, slots=True)
class FoundPage:
    looked_at: int
    found: Sequence[FoundRecord]
    gone: int = 0
    cursor: str | None = None


class Search:
    """Searches records, or dead letters, for the endpoints that are configured for their types."""

    def __init__(self, mongo: Mongo, endpoints: Sequence[Endpoint]) -> None:
        self._mongo = mongo
        self._collections = (mongo.log, mongo.outbox)
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._routes = Routes(endpoints)

    async def page(self, selection: Selection, cursor: str | None) -> FoundPage:
        """The page after `cursor`. Raises NotFound for an unknown id."""
        if selection.dead:
            return await self._dead_letters(selection, cursor)
        if selection.ids:
            return await self._by_ids(selection.ids)
        if selection.conversation_id:
            return await self._by_conversation(selection, cursor)
        return await self._by_time(selection, cursor)

    async def _by_ids(self, ids: Sequence[str]) -> FoundPage:
        records = [_record_id(id_) for id_ in ids]
        found = await self._load({collection.name: records for collection in self._collections})
        _need(ids, found)
        return FoundPage(len(found), [record for record in found if record.slots])

    async def _by_conversation(self, selection: Selection, cursor: str | None) -> FoundPage:
        after = max(f"{selection.conversation_id}-", cursor or "")
        where = {"_id": {"$gt": after, "$lt": f"{selection.conversation_id}."}}
        rows: list[tuple[str, Document]] = []
        for collection in self._collections:
            docs = await collection.find(where, FIELDS).sort("_id", 1).limit(PAGE).to_list()
            rows += [(collection.name, doc) for doc in docs]
        rows.sort(key=lambda row: row[1]["_id"])
        more = len(rows) >= PAGE
        rows = rows[:PAGE]
        found = _matching(selection, self._found(rows))
        return FoundPage(len(rows), found, cursor=rows[-1][1]["_id"] if more else None)

    async def _by_time(self, selection: Selection, cursor: str | None) -> FoundPage:
        """A page never splits a millisecond: events with the same time are on the same page."""
        since = _moment(cursor) if cursor else selection.since
        # By default, the period for which every event is kept.
        since = since or now() - timedelta(seconds=RETENTION_S)
        at: dict[str, datetime] = {"$gte": since}
        if selection.until:
            at["$lt"] = selection.until
        in_log = selection.type is None or selection.type in TYPE_OF_ENTRY.values()
        size = PAGE
        while True:
            rows: list[tuple[str, Document]] = []
            ends: list[datetime] = []
            for collection in self._collections if in_log else (self._mongo.outbox,):
                docs = await _first(collection, {"at": at}, size)
                rows += [(collection.name, doc) for doc in docs]
                if len(docs) == size:
                    ends.append(docs[-1]["at"])
            if not ends:
                return FoundPage(len(rows), _matching(selection, self._found(rows)))
            end = min(ends)
            before = [row for row in rows if row[1]["at"] < end]
            if before:
                found = _matching(selection, self._found(before))
                return FoundPage(len(before), found, cursor=str(unix_ms(end)))
            size *= 2

    async def _dead_letters(self, selection: Selection, cursor: str | None) -> FoundPage:
        where: Document = {}
        if selection.endpoint:
            where["endpoint"] = selection.endpoint
        if selection.ids:
            names = list(self._endpoints)
            records = [_record_id(id_) for id_ in selection.ids]
            where["_id"] = {
                "$in": [dead_letter_id(name, record) for name in names for record in records]
            }
        else:
            where["_id"] = {"$gt": cursor or ""}
        dead_letters = self._mongo.deadletters.find(where).sort("_id", 1)
        docs = await dead_letters.limit(0 if selection.ids else PAGE).to_list()
        chosen = [doc for doc in docs if self._is_wanted(selection, doc)]
        by_collection: dict[str, list[str]] = {
            collection.name: [] for collection in self._collections
        }
        names_of: dict[str, set[str]] = {}
        for doc in chosen:
            by_collection[doc["collection"]].append(doc["record"])
            names_of.setdefault(doc["record"], set()).add(doc["endpoint"])
        loaded = await self._load(by_collection)
        narrowed = [_only(record, names_of[record.id]) for record in loaded]
        found = [record for record in narrowed if record.slots]
        there = {
            dead_letter_id(endpoint_of(slot), record.id)
            for record in found
            for slot in record.slots
        }
        gone = sum(doc["_id"] not in there for doc in chosen)
        if selection.ids:
            _need(selection.ids, found)
        more = not selection.ids and len(docs) == PAGE
        return FoundPage(len(docs), found, gone, cursor=docs[-1]["_id"] if more else None)

    def _is_wanted(self, selection: Selection, dead_letter: Document) -> bool:
        endpoint = self._endpoints.get(dead_letter["endpoint"])
        return (
            endpoint is not None
            and dead_letter["type"] in endpoint.types
            and selection.conversation_id in (None, dead_letter["key"])
            and _applies(selection, dead_letter["type"], dead_letter["eventAt"])
        )

    async def _load(self, ids: Mapping[str, list[str]]) -> list[FoundRecord]:
        rows: list[tuple[str, Document]] = []
        for collection in self._collections:
            if wanted := ids[collection.name]:
                cursor = collection.find({"_id": {"$in": wanted}}, FIELDS)
                rows += [(collection.name, doc) async for doc in cursor]
        return self._found(rows)

    def _found(self, rows: Iterable[tuple[str, Document]]) -> list[FoundRecord]:
        """The rows (collection and document) that are events."""
        found = []
        for collection, doc in rows:
            kind = doc["kind"]
            type_ = TYPE_OF_ENTRY.get(kind) if collection == "log" else kind
            if type_ is not None:
                slots = tuple(self._routes.slots(type_, ordering_key_of(doc["_id"])))
                due = tuple(doc.get("due", ()))
                message_id = doc.get("messageId")
                found.append(
                    FoundRecord(collection, doc["_id"], type_, doc["at"], slots, due, message_id)
                )
        return found


def _matching(selection: Selection, found: Iterable[FoundRecord]) -> list[FoundRecord]:
    return [
        record for record in found if record.slots and _applies(selection, record.type, record.at)
    ]


def _applies(selection: Selection, type_: str, at: datetime) -> bool:
    return (
        selection.type in (None, type_)
        and (selection.since is None or selection.since <= at)
        and (selection.until is None or at < selection.until)
    )


def _only(record: FoundRecord, endpoint_names: set[str]) -> FoundRecord:
    slots = tuple(slot for slot in record.slots if endpoint_of(slot) in endpoint_names)
    return replace(record, slots=slots)


def _record_id(event: str) -> str:
    """The record id in an event id; "", which no record has, if the text is not an event id."""
    return event.removeprefix("evt_") if event.startswith("evt_") else ""


def _need(ids: Sequence[str], found: Sequence[FoundRecord]) -> None:
    there = {event_id(record.id) for record in found}
    if missing := [id_ for id_ in ids if id_ not in there]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise NotFound(f"No such event, or it is no longer stored: {missing[0]}{more}.")


def _moment(cursor: str) -> datetime:
    if not (cursor.isdecimal() and cursor.isascii() and len(cursor) <= 14):
        raise ValidationFailed.of("cursor", "Not a cursor for this selection.")
    return from_unix(int(cursor) / 1000)


async def _first(collection: Collection, where: Mapping[str, Any], limit: int) -> list[Document]:
    return await collection.find(where, FIELDS).sort("at", 1).limit(limit).to_list()
