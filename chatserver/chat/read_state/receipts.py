"""Read marks and receipts: the messages that each participant has read, and the time of reading.

A participant has a cumulative mark and the few ranges that were read ahead of it. Reading adds one
receipt for each range that became read, however many messages are in the range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...clock import EPOCH, iso, now
from ...errors import NotFound, ValidationFailed
from ...mongo import Document, Mongo, blocks_with, page_cursor
from ...observability.metrics import Families
from ..large_conversations import LargeConversations
from ..log.log import Log
from ..membership import Members
from ..memberships import member_id
from ..message import Message, conversation_of
from ..outside import ConversationRooms
from .marks import ReadMarks
from .merging import Merging
from .read_events import conversation_read, message_read
from .unread import Unread

MORE = (200,) * 5
"""Receipts that are read, and how often, when the first ones are of users who left. Then a page may be short."""


@dataclass(frozen=True, slots=True)
class PageOfReaders:
    message_id: str
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    conversation_id: str
    up_to_message_id: str | None = None


class Receipts:
    def __init__(
        self,
        mongo: Mongo,
        log: Log,
        members: Members,
        unread: Unread,
        rooms: ConversationRooms,
        large: LargeConversations,
        *,
        keep_days: int,
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._members = members
        self._unread = unread
        merging = Merging(mongo, unread, keep_days)
        self._marks = ReadMarks(mongo, unread, merging, rooms, large)

    def watch(self, metrics: Families) -> None:
        self._marks.watch(metrics)

    async def read_message(self, reader_id: str, message_id: str) -> Mapping[str, Any]:
        """Mark one message as read.

        A repeat, or a mark on the reader's own message, changes nothing and is not announced.
        """
        conversation_id = conversation_of(message_id)
        await self._members.present(reader_id, conversation_id)
        read = await self._marks.mark(reader_id, conversation_id, message_id, single=True)
        if read.last is None:
            raise NotFound()
        if read.notice is not None:
            return read.notice
        at = None
        if read.last.sender_id != reader_id:
            at = await self._read_at(reader_id, read.last)
        return message_read(message_id, conversation_id, reader_id, at or read.last.doc["at"])

    async def read_conversation(self, reader_id: str, asked: ReadUpTo) -> Mapping[str, Any]:
        """Mark all messages up to a message as read, by default up to the newest."""
        conversation_id, up_to = asked.conversation_id, asked.up_to_message_id
        await self._members.present(reader_id, conversation_id)
        read = await self._marks.mark(reader_id, conversation_id, up_to, single=False)
        if up_to is not None and read.last is None:
            raise ValidationFailed.of("upToMessageId", "No such message in this conversation.")
        if read.notice is not None:
            return read.notice
        last_id = read.last.id if read.last is not None else None
        return conversation_read(last_id, conversation_id, reader_id, 0, now())

    async def unread(self, reader_id: str, conversation_id: str) -> Mapping[str, Any]:
        member = await self._members.require(reader_id, conversation_id)
        last_seq, _ = await self._log.position(conversation_id)
        (count,) = await self._unread.counts([(member.doc, last_seq)])
        return {"conversationId": conversation_id, "count": count}

    async def readers(self, asker_id: str, asked: PageOfReaders) -> Mapping[str, Any]:
        """Returns participants who have read a message, and the times, and the cursor of the next page.

        The first reader comes first. Raises NotFound, ValidationFailed.
        """
        conversation_id = conversation_of(asked.message_id)
        await self._members.present(asker_id, conversation_id)
        message = await self._message(asked.message_id, conversation_id)
        last = None if asked.cursor is None else page_cursor.decode(asked.cursor)
        found: list[Document] = []
        for size in (asked.limit + 1, *MORE):
            receipts = await self._receipts(message, last, size)
            found += await self._of_participants(receipts, message.sender_id)
            if len(found) > asked.limit:
                last = _place(found[asked.limit - 1])
                break
            if len(receipts) < size:
                last = None
                break
            last = _place(receipts[-1])
        return {
            "items": [
                {"userId": doc["userId"], "readAt": read_at(doc)} for doc in found[: asked.limit]
            ],
            "nextCursor": last and page_cursor.encode(*last),
        }

    async def _receipts(
        self, message: Message, last: tuple[datetime, str] | None, limit: int
    ) -> list[Document]:
        """Returns receipts that contain a message, at most one of each user, in the order of their times and users."""
        where: Document = {
            "conversationId": message.conversation_id,
            # Nodes of the previous version store no blocks.
            "blocks": {"$in": [None, *blocks_with(message.seq)]},
            "from": {"$lte": message.seq},
            "to": {"$gte": message.seq},
        }
        spans: list[Document] = [where]
        if last is not None:
            at, user_id = last
            # One query with $or would read the receipts of that time from the first one on.
            spans = [where | {"at": at, "userId": {"$gt": user_id}}, where | {"at": {"$gt": at}}]
        found: list[Document] = []
        for span in spans:
            receipts = self._mongo.receipts.find(
                span, {"conversationId": 1, "userId": 1, "at": 1}, hint="readers"
            )
            ordered = receipts.sort([("at", 1), ("userId", 1)]).limit(limit - len(found))
            found += [doc async for doc in ordered]
            if len(found) == limit:
                break
        return found

    async def _of_participants(self, receipts: list[Document], sender_id: str) -> list[Document]:
        """Returns the receipts of users who participate now, without the sender."""
        ids = [member_id(doc["conversationId"], doc["userId"]) for doc in receipts]
        found = self._mongo.participants.find({"_id": {"$in": ids}}, {"userId": 1})
        users = {doc["userId"] async for doc in found} - {sender_id}
        return [doc for doc in receipts if doc["userId"] in users]

    async def _message(self, message_id: str, conversation_id: str) -> Message:
        doc = await self._mongo.log.find_one(
            {"_id": message_id, "conversationId": conversation_id, "kind": "message"}
        )
        if doc is None:
            raise NotFound()
        return Message(doc)

    async def _read_at(self, reader_id: str, message: Message) -> datetime | None:
        receipt = await self._mongo.receipts.find_one(
            {
                "conversationId": message.conversation_id,
                "userId": reader_id,
                "from": {"$lte": message.seq},
            },
            sort=[("from", -1)],
        )
        if receipt is None or receipt["to"] < message.seq or receipt["at"] == EPOCH:
            return None
        return receipt["at"]


def read_at(receipt: Document) -> str | None:
    """Returns the time of a receipt as on the wire: null for a merged one."""
    return None if receipt["at"] == EPOCH else iso(receipt["at"])


def _place(receipt: Document) -> tuple[datetime, str]:
    return receipt["at"], receipt["userId"]
