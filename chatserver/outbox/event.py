"""Events, as sinks deliver them to the Master Service."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .. import json_codec
from ..clock import iso

TYPE_OF_ENTRY: Mapping[str, str] = {
    "message": "message.created",
    "edit": "message.updated",
    "delete": "message.deleted",
    "end": "conversation.deleted",
    "reaction.added": "reaction.added",
    "reaction.removed": "reaction.removed",
}
"""Event types by kind of log entry. These entries are themselves the outbox records of their events. Entries
of other kinds, such as fences and messages that a user hid from themselves, are no events."""

TYPES = (
    *TYPE_OF_ENTRY.values(),
    "conversation.created",
    "participant.added",
    "participant.removed",
    "user.online",
    "user.offline",
)


class UnknownKind(Exception):
    """A server of a newer version recorded the event, so a relay of that version must deliver it."""


@dataclass(frozen=True, slots=True)
class Event:
    """`id` stays the same when the event is sent again. `at` is the time of the change, not of the delivery."""

    id: str
    type: str
    key: str
    """The id of the conversation or the user. Events with the same key are sent in order."""
    at: datetime
    data: json_codec.Json
    traceparent: str = ""
    """The trace of the request that made the change, if that trace is kept."""

    @classmethod
    def from_doc(cls, doc: Mapping[str, Any]) -> Event:
        """The event that a document of the collection `outbox` records."""
        return cls(
            event_id(doc["_id"]),
            doc["kind"],
            doc["key"],
            doc["at"],
            json_codec.Json(doc["data"]),
            doc.get("trace", ""),
        )

    def body(self) -> bytes:
        """The JSON text that is signed and sent."""
        return json_codec.encode(
            {"id": self.id, "type": self.type, "timestamp": iso(self.at), "data": self.data}
        )


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    id: str
    type: str
    ordering_key: str
    key: str
    """The id of the conversation or the user."""
    at: datetime
    data: Mapping[str, Any]

    @classmethod
    def of_conversation(
        cls,
        event_type: str,
        conversation_id: str,
        position: tuple[int, int],
        at: datetime,
        data: Mapping[str, Any],
    ) -> OutboxRecord:
        """`position`: the offset of the change in the log, and a number that grows with each event.

        The transaction of the change reads both, so of two events the later one has the higher position.
        """
        offset, number = position
        record_id = f"{conversation_id}-{offset:08x}.{number:08x}"
        return cls(record_id, event_type, conversation_id, conversation_id, at, data)

    @classmethod
    def of_user(
        cls, event_type: str, user_id: str, number: int, at: datetime, data: Mapping[str, Any]
    ) -> OutboxRecord:
        """`number` grows with each event of this user."""
        # A user id may contain any character; an ordering key becomes part of ids and headers.
        ordering_key = hashlib.blake2b(user_id.encode(), digest_size=12).hexdigest()
        return cls(f"{ordering_key}-{number:08x}", event_type, ordering_key, user_id, at, data)


def event_id(record_id: str) -> str:
    """The id of the event whose record (a log entry, or a document of `outbox`) has this id."""
    return f"evt_{record_id}"


def dead_letter_id(endpoint_name: str, record_id: str) -> str:
    """The id of the dead letter that the relay writes when it gives this event up for this endpoint."""
    return f"{endpoint_name}|{record_id}"
