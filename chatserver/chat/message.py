"""A message, and the ids of log entries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..clock import iso
from ..json_codec import Json, encode
from ..mongo import Document

SHOWN = 50
"""The most users of one emoji in a message. Other users are counted (see reaction_lists.py)."""

_NO_METADATA: Mapping[str, Any] = {}


def entry_id(conversation_id: str, offset: int) -> str:
    """Returns the id of a log entry. Ids of one conversation sort in the order of their offsets.

    The id of a message is the id of the entry that created it.
    """
    return f"{conversation_id}-{offset:08x}"


def conversation_of(message_id: str) -> str:
    """Returns the conversation to which a message with this id would belong. Takes any string."""
    return message_id.rpartition("-")[0]


def offset_of(entry_id: str) -> int:
    return int(entry_id.rpartition("-")[2], 16)


class Message:
    """A message: an immutable view of its log entry.

    These fields are left out of the document when empty: attachments, replyTo, mentions, metadata,
    clientMessageId, reactions ([{emoji, users}]), listed (see reaction_lists.py), isEdited, deletedAt.
    Metadata is stored as JSON text, so that a client's keys mean nothing to the database.
    """

    __slots__ = ("_encoded", "doc")

    def __init__(self, doc: Document) -> None:
        self.doc = doc
        self._encoded: bytes | None = None

    @property
    def id(self) -> str:
        return self.doc["_id"]

    @property
    def conversation_id(self) -> str:
        return self.doc["conversationId"]

    @property
    def seq(self) -> int:
        return self.doc["seq"]

    @property
    def rev(self) -> int:
        return self.doc["rev"]

    @property
    def sender_id(self) -> str:
        return self.doc["senderId"]

    @property
    def content(self) -> str:
        return self.doc["content"]

    @property
    def deleted_at(self) -> datetime | None:
        return self.doc.get("deletedAt")

    @property
    def updated_at(self) -> datetime:
        return self.doc["updatedAt"]

    @property
    def reactions(self) -> dict[str, Document]:
        """By `plain` emoji: {emoji, users}, the emoji as its first user wrote it, the earliest user first."""
        found: dict[str, Document] = {}
        for reaction in self.doc.get("reactions", ()):
            same = found.get(key := plain(reaction["emoji"]))
            # Earlier versions stored each form of an emoji by itself.
            found[key] = (
                {
                    "emoji": same["emoji"],
                    "users": list(dict.fromkeys([*same["users"], *reaction["users"]])),
                }
                if same
                else reaction
            )
        return found

    def reaction(self, emoji: str) -> Document:
        """Returns the {emoji, users} of any form of an emoji. Without users: nobody reacted with it."""
        return self.reactions.get(plain(emoji), {"emoji": emoji, "users": []})

    @property
    def listed(self) -> Mapping[str, Document]:
        """The emoji whose users are listed by documents of their own (see reaction_lists.py), by `plain` emoji."""
        # A node of the previous version leaves the field when it deletes the message.
        return {} if self.deleted_at else self.doc.get("listed", {})

    def count(self, reaction: Document) -> int:
        """Returns how many users have reacted with the emoji of one of the `reactions`."""
        users = len(reaction["users"])
        if not (listed := self.listed.get(plain(reaction["emoji"]))):
            return users
        # Not `listed` alone: a node of the previous version changes only the users who are shown.
        return users + max(0, int(listed["count"]) - SHOWN)

    def with_(self, **changes: Any) -> Message:
        """A copy with these fields of the document changed; None removes a field."""
        doc = {**self.doc, **changes}
        return Message({key: value for key, value in doc.items() if value is not None})

    def emptied(self, at: datetime) -> Message:
        """Returns the message after its deletion: it keeps its place, but has no contents."""
        return self.with_(
            content="",
            attachments=None,
            mentions=None,
            metadata=None,
            reactions=None,
            listed=None,
            updatedAt=at,
            deletedAt=at,
        )

    def hidden_by(self, hide: Document) -> Message:
        """Returns the message as the user of this `hide` entry sees it: as it was then, whatever others have done to it
        since, because the user's clients ignore what happens to a deleted message."""
        # Earlier versions did not store `wasEdited`.
        edited = hide.get("wasEdited", "isEdited" in self.doc)
        return self.emptied(hide["at"]).with_(
            rev=max(self.rev, hide["lastRev"]), isEdited=True if edited else None
        )

    def wire(self) -> dict[str, Any]:
        doc = self.doc
        at = doc["at"]
        created = iso(at)
        updated = doc["updatedAt"]
        deleted = doc.get("deletedAt")
        metadata = doc.get("metadata")
        return {
            "id": doc["_id"],
            "conversationId": doc["conversationId"],
            "seq": doc["seq"],
            "rev": doc["rev"],
            "senderId": doc["senderId"],
            "content": doc["content"],
            "attachments": doc.get("attachments", ()),
            "replyTo": doc.get("replyTo"),
            "mentions": doc.get("mentions", ()),
            "metadata": Json(metadata) if metadata else _NO_METADATA,
            "clientMessageId": doc.get("clientMessageId"),
            "reactions": reactions_wire(self) if "reactions" in doc else (),
            "isEdited": "isEdited" in doc,
            "isDeleted": deleted is not None,
            "createdAt": created,
            "updatedAt": created if updated == at else iso(updated),
            "deletedAt": None if deleted is None else iso(deleted),
        }

    @property
    def encoded(self) -> bytes:
        """The message in its wire format, encoded once for all receivers."""
        if self._encoded is None:
            self._encoded = encode(self.wire())
        return self._encoded

    @property
    def part(self) -> Json | dict[str, Any]:
        """The message as a part of JSON that is encoded at once. It is not encoded by itself for that."""
        return self.wire() if self._encoded is None else Json(self._encoded)

    @property
    def json(self) -> Json:
        """`encoded`, as a part of other JSON."""
        return Json(self.encoded)


def plain(emoji: str) -> str:
    """Returns an emoji without presentation selectors (U+FE0E, U+FE0F), on which keyboards and systems differ."""
    return emoji.replace("\ufe0f", "").replace("\ufe0e", "")


def reactions_wire(message: Message) -> list[dict[str, Any]]:
    """Returns the reactions of a message, each with its first users and the number of all."""
    return [
        {
            "emoji": reaction["emoji"],
            "count": message.count(reaction),
            "userIds": reaction["users"][:SHOWN],
        }
        for reaction in message.reactions.values()
    ]
