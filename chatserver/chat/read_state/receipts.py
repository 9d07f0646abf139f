"""Read marks and receipts: the messages that each participant has read, and the time of reading.

A participant has a cumulative mark and the few ranges that were read ahead of it. Reading adds one
receipt for each range that became read, however many messages are in the range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...clock import iso, now
from ...errors import NotFound, ValidationFailed
from ...mongo import Mongo
from ...observability.metrics import Families
from ..large_conversations import LargeConversations
from ..log.log import Log
from ..membership import Members
from ..message import Message, conversation_of
from ..outside import ConversationRooms
from .marks import ReadMarks, conversation_read, message_read
from .unread import Unread


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
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._members = members
        self._unread = unread
        self._marks = ReadMarks(mongo, unread, rooms, large)

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
        read_at = None
        if read.last.sender_id != reader_id:
            read_at = await self._read_at(reader_id, read.last)
        return message_read(message_id, conversation_id, reader_id, read_at or read.last.doc["at"])

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

    async def readers(self, asker_id: str, message_id: str) -> Mapping[str, Any]:
        """Returns the participants who have read a message, and the times. The first reader comes first."""
        conversation_id = conversation_of(message_id)
        await self._members.present(asker_id, conversation_id)
        message = await self._message(message_id, conversation_id)
        cursor = await self._mongo.participants.aggregate(
            [
                {
                    "$match": {
                        "conversationId": conversation_id,
                        "userId": {"$ne": message.sender_id},
                    }
                },
                {
                    # The user's last range that starts at or before the message: one index seek per user.
                    "$lookup": {
                        "from": "receipts",
                        "let": {"user": "$userId"},
                        "pipeline": [
                            {
                                "$match": {
                                    "conversationId": conversation_id,
                                    "from": {"$lte": message.seq},
                                    "$expr": {"$eq": ["$userId", "$$user"]},
                                }
                            },
                            {"$sort": {"from": -1}},
                            {"$limit": 1},
                        ],
                        "as": "receipt",
                    }
                },
                {"$unwind": "$receipt"},
                {"$match": {"receipt.to": {"$gte": message.seq}}},
                {"$sort": {"receipt.at": 1, "userId": 1}},
            ]
        )
        return {
            "items": [
                {"userId": doc["userId"], "readAt": iso(doc["receipt"]["at"])}
                async for doc in cursor
            ]
        }

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
        return receipt["at"] if receipt and receipt["to"] >= message.seq else None
