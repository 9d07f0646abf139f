"""What the sockets hear of a committed change."""

from __future__ import annotations

from typing import Any

from ..clock import iso
from .log.entry import Entry
from .members import Members
from .recency import Recency
from .rooms import Rooms


class Announcements:
    """Tells a conversation of a log entry. One function, for what was just committed and for what
    had to be read again: then a message appears as it is by now."""

    def __init__(self, rooms: Rooms, recency: Recency, members: Members) -> None:
        self._rooms = rooms
        self._recency = recency
        self._members = members

    def tell(self, entry: Entry) -> None:
        message = entry.message
        kind = entry.doc["kind"]
        conversation_id = entry.doc["conversationId"]
        if kind == "message":
            self._recency.touch(conversation_id, message.doc["at"])
            self._rooms.emit(conversation_id, "message:new", message.json)
            return
        payload: dict[str, Any] = {
            "messageId": entry.doc["messageId"],
            "conversationId": conversation_id,
        }
        if kind == "edit":
            payload |= {
                "content": message.content,
                "isEdited": True,
                "updatedAt": iso(message.updated_at),
                "seq": message.seq,
                "rev": entry.rev,
            }
            self._rooms.emit(conversation_id, "message:updated", payload)
        elif kind == "delete":
            payload |= {"deletedAt": iso(entry.doc["at"]), "scope": "everyone", "rev": entry.rev}
            self._rooms.emit(conversation_id, "message:deleted", payload)
        elif kind == "hide":
            payload |= {"deletedAt": iso(entry.doc["at"]), "scope": "self", "rev": entry.rev}
            self._members.has_hidden(entry.doc["hiddenFor"], conversation_id)
            self._rooms.emit_to(entry.doc["hiddenFor"], "message:deleted", payload)
        else:
            payload |= {
                "emoji": entry.doc["emoji"],
                "userId": entry.doc["userId"],
                "totalCount": entry.doc["totalCount"],
                "rev": entry.rev,
            }
            self._rooms.emit(conversation_id, kind.replace(".", ":"), payload)
