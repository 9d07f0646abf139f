"""An event: what the Master Service is told of."""

from __future__ import annotations

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
"""By the kind of a log entry: these entries are the outbox record of their event. The others (what
one user hid from oneself, fences) are nobody else's business."""

TYPES = (
    *TYPE_OF_ENTRY.values(),
    "conversation.created",
    "participant.added",
    "participant.removed",
    "user.online",
    "user.offline",
)


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is the same however often the event is sent; `at`: when what it tells of happened."""

    id: str
    type: str
    at: datetime
    data: json_codec.Json
    traceparent: str = ""
    """Of the request that did what it tells of, if its trace is kept."""

    @classmethod
    def from_doc(cls, doc: Mapping[str, Any]) -> Event:
        """The event of a document of the outbox."""
        return cls(
            event_id(doc["_id"]),
            doc["kind"],
            doc["at"],
            json_codec.Json(doc["data"]),
            doc.get("trace", ""),
        )

    def body(self) -> bytes:
        """The JSON text that is signed and sent."""
        return json_codec.encode(
            {"id": self.id, "type": self.type, "timestamp": iso(self.at), "data": self.data}
        )


def event_id(record_id: str) -> str:
    """The id of the event whose record (a log entry, or a document of the outbox) has this id."""
    return f"evt_{record_id}"


def dead_letter_id(endpoint_name: str, record_id: str) -> str:
    """The id that the dead letter of a record has, if the relay gives the event up for this endpoint."""
    return f"{endpoint_name}|{record_id}"
