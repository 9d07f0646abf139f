"""Makes webhook events from log entries."""

from __future__ import annotations

from typing import Any

from .. import json_codec
from ..clock import iso
from ..mongo import Document, Mongo
from ..outbox.event import TYPE_OF_ENTRY, Event, UnknownKind, event_id
from .message import Message


class WebhookEvents:
    """Makes webhook events from log entries.

    An event has the message's content at the time when the event is made. If the message was edited or
    deleted since its change, the event has the newer content, but the rev of its own change.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def event(self, entry: Document) -> Event:
        """Returns the event of an entry. Raises DatabaseUnavailable, UnknownKind."""
        kind = entry["kind"]
        if kind not in TYPE_OF_ENTRY:
            raise UnknownKind(f"this relay does not know events of the kind {kind}: upgrade it")
        if kind == "message":
            data = self._message(entry, entry["lastRev"])
        elif kind == "edit":
            async with self._mongo.deadline():
                doc = await self._mongo.log.find_one({"_id": entry["messageId"]})
            if doc is None:
                raise LookupError(f"{entry['_id']} is a change of a message that does not exist")
            data = self._message(doc, entry["lastRev"])
        elif kind == "end":
            data = {
                "conversationId": entry["conversationId"],
                "deletedBy": entry["userId"],
                "deletedAt": iso(entry["at"]),
            }
        else:
            data = self._change(entry)
        return Event(
            event_id(entry["_id"]),
            TYPE_OF_ENTRY[kind],
            entry["conversationId"],
            entry["at"],
            json_codec.Json(json_codec.encode(data)),
            entry.get("trace", ""),
        )

    def _message(self, doc: Document, rev: int) -> dict[str, Any]:
        return {**Message(doc).wire(), "rev": rev}

    def _change(self, entry: Document) -> dict[str, Any]:
        data = {
            "messageId": entry["messageId"],
            "conversationId": entry["conversationId"],
            "rev": entry["lastRev"],
        }
        if entry["kind"] == "delete":
            return {
                **data,
                "scope": "everyone",
                "deletedBy": entry["userId"],
                "deletedAt": iso(entry["at"]),
            }
        return {
            **data,
            "emoji": entry["emoji"],
            "userId": entry["userId"],
            "totalCount": entry["totalCount"],
            "timestamp": iso(entry["at"]),
        }
