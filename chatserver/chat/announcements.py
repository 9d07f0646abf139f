"""Describes the events that sockets receive after a committed change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic

import structlog

from ..clock import iso
from .log.entry import Entry
from .message import Message, offset_of
from .outside import Announcer, RoomUpdate, Update
from .recency import Recency
from .signals import Counted, Ended, Hidden

log = structlog.get_logger(__name__)

View = Mapping[str, Any]


class Announcements(Generic[Update]):
    """Announces what was just committed here to its conversation."""

    def __init__(self, rooms: Announcer[Update], recency: Recency) -> None:
        self._rooms = rooms
        self._new_update = rooms.new_update
        self._recency = recency

    def created(self, view: View, user_ids: Iterable[str]) -> None:
        """Announce a new conversation to its participants."""
        update = self._new_update()
        update.admit(user_ids)
        update.emit("conversation:new", view)
        self._rooms.tell(view["id"], 0, update)
        # Other users may have sent messages already.
        if view["lastRev"]:
            self._rooms.behind(view["id"], 0, 1)

    def tell(self, entry: Entry) -> None:
        """Announce an entry that was just committed here."""
        if entry.trace is not None:
            entry.trace.announce()
        doc = entry.doc
        try:
            update = self._new_update()
            describe(update, entry)
            seq = 0
            if doc["kind"] == "message":
                seq = doc["seq"]
                self._recency.touch(doc["conversationId"], doc["at"])
            self._rooms.tell(doc["conversationId"], offset_of(doc["_id"]), update, seq=seq)
        except Exception:  # the entry is committed: a failed announcement must not fail its batch
            log.exception("announcing failed", entry=doc["_id"])
        if entry.trace is not None:
            entry.trace.done()


def describe(update: RoomUpdate, entry: Entry) -> None:
    """Add the effects of a log entry to a room update.

    Entries that were just committed and entries that were read from the log have the same effects. An entry
    of an unknown kind has none: during a rolling upgrade, a node of a newer version may have written it.
    """
    doc = entry.doc
    kind = doc["kind"]
    if kind == "message":
        assert entry.message is not None  # noqa: S101
        update.emit("message:new", entry.message.json)
    elif kind == "members":
        _members(update, doc, entry)
    elif kind == "conversation":
        update.emit("conversation:updated", entry.view)
    elif kind == "end":
        if doc.get("hasParticipants"):
            # Before the room is empty: who then looks for a conversation in common must not find this one.
            update.signal(Ended(doc["conversationId"]))
        update.dissolve("conversation:removed", {"conversationId": doc["conversationId"]})
    elif entry.message is not None:
        _change(update, entry, entry.message)


def _members(update: RoomUpdate, doc: Mapping[str, Any], entry: Entry) -> None:
    conversation_id, at = doc["conversationId"], iso(doc["at"])
    view, is_large = entry.view, doc.get("large", False)

    def who(user_id: str) -> View:
        return {"conversationId": conversation_id, "userId": user_id, "timestamp": at}

    added, removed = doc.get("added", ()), doc.get("removed", ())
    if added:
        for user_id in doc.get("hiding", ()):
            update.signal(Hidden(user_id, conversation_id))
        update.admit(added)
        others = [user_id for user_id in added if user_id not in entry.own_views]
        update.emit_to_each(others, "conversation:joined", view)
        for user_id, own in entry.own_views.items():
            update.emit_to(user_id, "conversation:joined", own)
        for user_id in () if is_large else added:
            update.emit("participant:added", who(user_id))
    if removed:
        update.expel(removed)
        update.emit_to_each(removed, "conversation:removed", {"conversationId": conversation_id})
        for user_id in () if is_large else removed:
            update.emit("participant:removed", who(user_id))
    if added or removed:
        # An entry of an earlier version has no count.
        update.signal(Counted(conversation_id, doc.get("count"), is_large, at))
    if doc.get("roles"):
        update.emit("conversation:updated", view)


def _change(update: RoomUpdate, entry: Entry, message: Message) -> None:
    doc = entry.doc
    kind = doc["kind"]
    payload: dict[str, Any] = {
        "messageId": doc["messageId"],
        "conversationId": doc["conversationId"],
    }
    if kind == "edit":
        payload |= {
            "content": message.content,
            "isEdited": True,
            "updatedAt": iso(message.updated_at),
            "seq": message.seq,
            "rev": entry.rev,
        }
        update.emit("message:updated", payload)
    elif kind == "delete":
        payload |= {"deletedAt": iso(doc["at"]), "scope": "everyone", "rev": entry.rev}
        update.emit("message:deleted", payload)
    elif kind == "hide":
        payload |= {"deletedAt": iso(doc["at"]), "scope": "self", "rev": entry.rev}
        update.signal(Hidden(doc["hiddenFor"], doc["conversationId"]))
        update.emit_to(doc["hiddenFor"], "message:deleted", payload)
    elif kind in ("reaction.added", "reaction.removed"):
        payload |= {
            "emoji": doc["emoji"],
            "userId": doc["userId"],
            "totalCount": doc["totalCount"],
            "rev": entry.rev,
        }
        update.emit(kind.replace(".", ":"), payload)
