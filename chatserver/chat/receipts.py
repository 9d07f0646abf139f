"""Read state: who has read what, and when.

Each participant has a cumulative mark and the few ranges read ahead of it; each act of reading adds
one receipt with the ranges that became read, however many messages are in them.
"""

from __future__ import annotations

import random
from asyncio import sleep
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from ..clock import iso, now
from ..errors import Conflict, NotFound, ValidationFailed
from ..mongo import Document, Mongo, Session
from ..requests.messages import ReadUpTo
from .log.log import Log
from .members import Members, member_id
from .message import Message, conversation_of
from .ranges import Range, ReadSet
from .rooms import Rooms
from .unread import Unread, read_set

MAX_AHEAD = 1000
"""Ranges kept ahead of the mark: reading every other message of a long history is refused past it."""
ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class _Read:
    became: int
    """Messages that became read."""
    moved: bool
    at: datetime


class Receipts:
    def __init__(
        self, mongo: Mongo, log: Log, members: Members, unread: Unread, rooms: Rooms
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._members = members
        self._unread = unread
        self._rooms = rooms

    async def read_message(self, reader_id: str, message_id: str) -> Mapping[str, Any]:
        """Mark one message. Marking it again, or one's own, changes nothing and is told to nobody."""
        conversation_id = conversation_of(message_id)
        await self._members.present(reader_id, conversation_id)
        message = await self._message(message_id, conversation_id)
        read_at = None
        if message.sender_id != reader_id:
            read = await self._mark(reader_id, conversation_id, message.seq, message.seq)
            read_at = read.at if read.moved else await self._read_at(reader_id, message)
        answer = {
            "messageId": message_id,
            "conversationId": conversation_id,
            "userId": reader_id,
            "readAt": iso(read_at or message.doc["at"]),
        }
        if message.sender_id != reader_id and read.moved:
            self._rooms.emit(conversation_id, "message:read", answer)
        return answer

    async def read_conversation(self, reader_id: str, asked: ReadUpTo) -> Mapping[str, Any]:
        """Mark everything up to a message (default: the newest)."""
        conversation_id = asked.conversation_id
        await self._members.present(reader_id, conversation_id)
        if asked.up_to_message_id is not None:
            last: Message | None = await self._message(
                asked.up_to_message_id, conversation_id, "upToMessageId"
            )
        else:
            last = await self._newest(conversation_id)
        read = _Read(0, moved=False, at=now())
        if last is not None:
            read = await self._mark(reader_id, conversation_id, 1, last.seq)
        answer = {
            "conversationId": conversation_id,
            "userId": reader_id,
            "upToMessageId": last.id if last else None,
            "count": read.became,
            "readAt": iso(read.at),
        }
        if read.moved:
            self._rooms.emit(conversation_id, "conversation:read", answer)
        return answer

    async def unread(self, reader_id: str, conversation_id: str) -> Mapping[str, Any]:
        member = await self._members.require(reader_id, conversation_id)
        last_seq, _ = await self._log.position(conversation_id)
        (count,) = await self._unread.counts([(member.doc, last_seq)])
        return {"conversationId": conversation_id, "count": count}

    async def readers(self, asker_id: str, message_id: str) -> Mapping[str, Any]:
        """Who of the participants has read a message, and when, the first reader first."""
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
                    # The last range of the user that begins at or before the message: one seek each.
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

    async def _message(
        self, message_id: str, conversation_id: str, field: str | None = None
    ) -> Message:
        doc = await self._mongo.log.find_one(
            {"_id": message_id, "conversationId": conversation_id, "kind": "message"}
        )
        if doc is not None:
            return Message(doc)
        if field is None:
            raise NotFound()
        raise ValidationFailed.of(field, "No such message in this conversation.")

    async def _newest(self, conversation_id: str) -> Message | None:
        doc = await self._mongo.log.find_one(
            {"conversationId": conversation_id, "seq": {"$gte": 1}}, sort=[("seq", -1)]
        )
        return Message(doc) if doc else None

    async def _read_at(self, reader_id: str, message: Message) -> datetime | None:
        receipt = await self._mongo.receipts.find_one(
            {
                "conversationId": message.conversation_id,
                "userId": reader_id,
                "from": {"$lte": message.seq},
            },
            sort=[("from", -1)],
        )
        return receipt["at"] if receipt else None

    async def _mark(self, reader_id: str, conversation_id: str, first: int, last: int) -> _Read:
        for attempt in range(ATTEMPTS):
            doc = await self._mongo.participants.find_one(
                {"_id": member_id(conversation_id, reader_id)}
            )
            if doc is None:
                raise NotFound()
            state = read_set(doc)
            gaps = _inside(state.missing(last), first)
            at = now()
            if not gaps:
                return _Read(0, moved=False, at=at)
            after = await self._collapsed(doc, state.adding(first, last), last)
            became = await self._unread.within(doc, gaps)
            if await self._mongo.transaction(partial(self._store, doc, after, gaps, at)):
                return _Read(became, moved=True, at=at)
            # Another device of the same user was quicker: look again.
            await sleep(random.random() * 0.002 * 2**attempt)
        raise Conflict("Being read from too many devices at once; try again.")

    async def _store(
        self, doc: Document, after: ReadSet, gaps: list[Range], at: datetime, session: Session
    ) -> bool:
        changed = await self._mongo.participants.update_one(
            {"_id": doc["_id"], "readVersion": doc.get("readVersion")},
            {
                "$set": {"lastReadSeq": after.mark, "ahead": [list(one) for one in after.ahead]},
                "$inc": {"readVersion": 1},
            },
            session=session,
        )
        if not changed.modified_count:
            return False
        await self._mongo.receipts.insert_many(
            [
                {
                    "conversationId": doc["conversationId"],
                    "userId": doc["userId"],
                    "from": first,
                    "to": last,
                    "at": at,
                }
                for first, last in gaps
            ],
            session=session,
        )
        return True

    async def _collapsed(self, doc: Document, state: ReadSet, seq: int) -> ReadSet:
        """Close the gaps beside `seq` that hold nothing unread: one's own messages, deleted ones.

        In a lively talk each message is read by itself and every other one is one's own: without
        this the ranges would never join.
        """
        for gap in state.gaps_beside(seq):
            if not await self._unread.within(doc, [gap]):
                state = state.adding(*gap)
        if len(state.ahead) > MAX_AHEAD:
            raise Conflict("Too much has been read out of order; mark the conversation as read.")
        return state


def _inside(gaps: list[Range], first: int) -> list[Range]:
    return [(max(start, first), end) for start, end in gaps if end >= first]
