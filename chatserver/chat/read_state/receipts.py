"""Read marks and receipts: the messages that each participant has read, and the time of reading.

A participant has a cumulative mark and the few ranges that were read ahead of it. Reading adds one
receipt for each range that became read, however many messages are in the range.
"""

from __future__ import annotations

import random
from asyncio import sleep
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from ...clock import iso, now
from ...errors import Conflict, NotFound, ValidationFailed
from ...mongo import AFTER, Document, Mongo, Session
from ..log.log import Log
from ..membership import Members, member_id
from ..message import Message, conversation_of, entry_id, offset_of
from ..outside import ConversationRooms
from .ranges import Range, ReadSet
from .unread import Unread, read_set


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    conversation_id: str
    up_to_message_id: str | None = None


MAX_AHEAD = 1000
"""Ranges that are kept ahead of the mark. Reading that would need more is refused, such as reading every
other message of a long history."""
ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class _Read:
    became: int
    """The number of messages that became read."""
    at: datetime
    notice: str = ""
    """The id of the notice about it. Empty if nothing became read."""


class Receipts:
    def __init__(
        self, mongo: Mongo, log: Log, members: Members, unread: Unread, rooms: ConversationRooms
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._members = members
        self._unread = unread
        self._rooms = rooms

    async def read_message(self, reader_id: str, message_id: str) -> Mapping[str, Any]:
        """Mark one message as read.

        A repeat, or a mark on the reader's own message, changes nothing and is not announced.
        """
        conversation_id = conversation_of(message_id)
        await self._members.present(reader_id, conversation_id)
        message = await self._message(message_id, conversation_id)
        read, read_at = None, None
        if message.sender_id != reader_id:
            read = await self._mark(
                reader_id, conversation_id, (message.seq, message.seq), message, single=True
            )
            read_at = read.at if read.notice else await self._read_at(reader_id, message)
        answer = _message_read(message_id, conversation_id, reader_id, read_at or message.doc["at"])
        if read is not None and read.notice:
            self._rooms.emit(conversation_id, "message:read", answer, notice=read.notice)
        return answer

    async def read_conversation(self, reader_id: str, asked: ReadUpTo) -> Mapping[str, Any]:
        """Mark all messages up to a message as read, by default up to the newest."""
        conversation_id = asked.conversation_id
        await self._members.present(reader_id, conversation_id)
        if asked.up_to_message_id is not None:
            last: Message | None = await self._message(
                asked.up_to_message_id, conversation_id, "upToMessageId"
            )
        else:
            last = await self._newest(conversation_id)
        read = _Read(0, now())
        if last is not None:
            read = await self._mark(reader_id, conversation_id, (1, last.seq), last, single=False)
        answer = _conversation_read(
            last.id if last else None, conversation_id, reader_id, read.became, read.at
        )
        if read.notice:
            self._rooms.emit(conversation_id, "conversation:read", answer, notice=read.notice)
        return answer

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
        return receipt["at"] if receipt and receipt["to"] >= message.seq else None

    async def _mark(
        self,
        reader_id: str,
        conversation_id: str,
        span: Range,
        named: Message,
        *,
        single: bool,
    ) -> _Read:
        """Mark a range as read. `named`: the message that the notice names.

        `single`: only this message was marked, not everything up to it.
        """
        first, last = span
        for attempt in range(ATTEMPTS):
            doc = await self._mongo.participants.find_one(
                {"_id": member_id(conversation_id, reader_id)}
            )
            if doc is None:
                raise NotFound()
            state = read_set(doc)
            gaps = _inside(state.missing(last), first)
            if not gaps:
                return _Read(0, now())
            after = await self._collapsed(doc, state.adding(first, last), last)
            became = await self._unread.within(doc, gaps)
            tells = {"place": offset_of(named.id)} | ({} if single else {"count": became})
            receipt = await self._mongo.transaction(
                partial(self._store, doc, after, gaps, tells),
                if_unsure=partial(self._announce_if_stored, doc, gaps[-1]),
            )
            if receipt is not None:
                return _Read(became, receipt["at"], str(receipt["_id"]))
            # Another device of the same user was quicker: read the state again.
            await sleep(random.random() * 0.002 * 2**attempt)
        raise Conflict("Too many devices are marking this conversation as read; try again.")

    async def _store(
        self, doc: Document, after: ReadSet, gaps: list[Range], tells: Document, session: Session
    ) -> Document | None:
        """Store the new read state and a receipt for each range.

        Returns the receipt with the fields `tells`, from which nodes restore a notice that they missed.
        Returns None if another device has changed the read state first.
        """
        changed = await self._mongo.participants.find_one_and_update(
            {"_id": doc["_id"], "readVersion": doc.get("readVersion")},
            {
                "$set": {"lastReadSeq": after.mark, "ahead": [list(span) for span in after.ahead]},
                "$inc": {"readVersion": 1},
                # By the database's clock: nodes search for recent receipts by their time.
                "$currentDate": {"readAt": True},
            },
            {"readAt": 1},
            return_document=AFTER,
            session=session,
        )
        if changed is None:
            return None
        receipts: list[Document] = [
            {
                "conversationId": doc["conversationId"],
                "userId": doc["userId"],
                "from": first,
                "to": last,
                "at": changed["readAt"],
            }
            for first, last in gaps
        ]
        receipts[-1] |= tells
        await self._mongo.receipts.insert_many(receipts, session=session)
        return receipts[-1]

    async def _announce_if_stored(self, doc: Document, span: Range) -> None:
        first, last = span
        receipt = await self._mongo.receipts.find_one(
            {
                "conversationId": doc["conversationId"],
                "userId": doc["userId"],
                "from": first,
                "to": last,
                "place": {"$exists": True},
            }
        )
        if receipt is not None:
            event, payload = announcement(receipt)
            self._rooms.emit(doc["conversationId"], event, payload, notice=str(receipt["_id"]))

    async def _collapsed(self, doc: Document, state: ReadSet, seq: int) -> ReadSet:
        """Close the gaps beside `seq` that hold only the reader's own messages and deleted ones.

        In a lively conversation, messages are read one by one, and every other message is the reader's
        own. Without this, the ranges would never join.
        """
        for gap in state.gaps_beside(seq):
            if not await self._unread.within(doc, [gap]):
                state = state.adding(*gap)
        if len(state.ahead) > MAX_AHEAD:
            raise Conflict("Too much has been read out of order; mark the conversation as read.")
        return state


def announcement(receipt: Document) -> tuple[str, Mapping[str, Any]]:
    """Returns the event and the payload of a read notice, from the receipt that has `place`."""
    conversation_id, user_id, at = receipt["conversationId"], receipt["userId"], receipt["at"]
    message_id = entry_id(conversation_id, receipt["place"])
    if "count" not in receipt:
        return "message:read", _message_read(message_id, conversation_id, user_id, at)
    return "conversation:read", _conversation_read(
        message_id, conversation_id, user_id, receipt["count"], at
    )


def _message_read(
    message_id: str, conversation_id: str, user_id: str, at: datetime
) -> Mapping[str, Any]:
    return {
        "messageId": message_id,
        "conversationId": conversation_id,
        "userId": user_id,
        "readAt": iso(at),
    }


def _conversation_read(
    message_id: str | None, conversation_id: str, user_id: str, count: int, at: datetime
) -> Mapping[str, Any]:
    return {
        "conversationId": conversation_id,
        "userId": user_id,
        "upToMessageId": message_id,
        "count": count,
        "readAt": iso(at),
    }


def _inside(gaps: list[Range], first: int) -> list[Range]:
    return [(max(start, first), end) for start, end in gaps if end >= first]
