"""Reads the log entries that a room is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic

from ...errors import NotFound
from ...mongo import DatabaseUnavailable, Document, Mongo
from ..announcements import describe
from ..log.entry import Entry
from ..log.position import MAX_OFFSET
from ..message import Message, entry_id, offset_of
from ..outside import Announcer, Update
from ..recency import Recency
from ..views import LAST_ENTRY, Views

PAGE = 500
"""Entries, or conversations, in one read."""


class LogReader(Generic[Update]):
    """The log as the rooms read it. Its methods raise `unreadable` if the log cannot be read now."""

    unreadable = DatabaseUnavailable

    def __init__(
        self, mongo: Mongo, views: Views, recency: Recency, new_update: Callable[[], Update]
    ) -> None:
        self._mongo = mongo
        self._views = views
        self._recency = recency
        self._new_update = new_update

    async def after(self, room: str, offset: int, limit: int) -> list[tuple[int, Update]]:
        """Returns the first `limit` changes after `offset`, in order.

        A message has its current content, but the rev with which it was sent. Edits, reactions and deletions
        of a message that is itself returned are already in its content, so their updates are empty.
        """
        async with self._mongo.deadline():
            return await self._after(room, offset, limit)

    async def announce(self, rooms: Announcer[Update], room: str, offset: int, up_to: int) -> None:
        """Announce the changes after `offset`, up to `up_to`, on all nodes. Nodes that have applied a change ignore it."""
        while found := await self.after(room, offset, min(PAGE, up_to - offset)):
            for offset, update in found:
                rooms.tell(room, offset, update)
            if offset >= up_to:
                return

    async def positions(self, rooms: Iterable[str]) -> dict[str, int]:
        """Returns the latest offset of each conversation. Deleted conversations are left out."""
        wanted = list(rooms)
        found: dict[str, int] = {}
        for at in range(0, len(wanted), PAGE):
            async with self._mongo.deadline():
                cursor = await self._mongo.conversations.aggregate(
                    [
                        {"$match": {"_id": {"$in": wanted[at : at + PAGE]}}},
                        {"$project": {"_id": 1}},
                        LAST_ENTRY,
                    ]
                )
                async for doc in cursor:
                    latest = doc["latest"]
                    found[doc["_id"]] = offset_of(latest[0]["_id"]) if latest else 0
        return found

    async def _after(self, room: str, offset: int, limit: int) -> list[tuple[int, Update]]:
        span = {"$gt": entry_id(room, offset), "$lte": entry_id(room, MAX_OFFSET)}
        cursor = self._mongo.log.find({"_id": span}).sort("_id", 1).limit(limit)
        docs = [doc async for doc in cursor]
        targets = {doc["messageId"] for doc in docs if "messageId" in doc}
        messages = {
            doc["_id"]: Message(doc)
            async for doc in self._mongo.log.find({"_id": {"$in": list(targets)}})
        }
        sent = {doc["_id"] for doc in docs if doc["kind"] == "message"}
        return [(offset_of(doc["_id"]), await self._update_of(doc, messages, sent)) for doc in docs]

    async def _update_of(
        self, doc: Document, messages: dict[str, Message], sent: set[str]
    ) -> Update:
        update = self._new_update()
        kind = doc["kind"]
        if kind == "message":
            self._recency.touch(doc["conversationId"], doc["at"])
            message = Message({**doc, "rev": doc["lastRev"]})
            describe(update, Entry(doc, message))
        elif "messageId" in doc:
            if kind == "hide" or doc["messageId"] not in sent:
                describe(update, Entry(doc, messages[doc["messageId"]]))
        elif kind in ("members", "conversation"):
            try:
                view = await self._views.conversation(doc["conversationId"])
                hiding = doc.get("hiding", ())
                own_views = await self._views.own_views(doc["conversationId"], hiding)
            except NotFound:
                # The conversation was deleted since. The entry of its deletion follows.
                return update
            describe(update, Entry(doc, None, view, own_views))
        else:
            describe(update, Entry(doc, None))
        return update
