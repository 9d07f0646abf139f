"""Unread counts. They are computed, never incremented, so they cannot drift.

Unread messages are the ones not marked as read, less the user's own and the deleted and hidden ones. The
length of the unread ranges is arithmetic. The own and the deleted messages in them are counted on indexes
that hold only those. The conversation itself is never scanned.
"""

from __future__ import annotations

import asyncio

from ...mongo import Document, Mongo
from .ranges import Range, ReadSet


def read_set(member: Document) -> ReadSet:
    return ReadSet(
        member["lastReadSeq"], tuple((first, last) for first, last in member.get("ahead", ()))
    )


class Unread:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def counts(self, members: list[tuple[Document, int]]) -> list[int]:
        """Returns the unread count of each participant. `members`: documents, each with the conversation's
        last seq."""
        return list(
            await asyncio.gather(
                *[self.within(member, read_set(member).missing(last)) for member, last in members]
            )
        )

    async def within(self, member: Document, gaps: list[Range]) -> int:
        """Returns how many messages in these ranges would count as unread if none were marked as read."""
        if not gaps:
            return 0
        inside = _any_of(gaps)
        others = sum(last - first + 1 for first, last in gaps)
        conversation = {"conversationId": member["conversationId"]}
        user_id = member["userId"]
        own, deleted, hidden = await asyncio.gather(
            self._mongo.log.count_documents(
                {**conversation, "senderId": user_id, **inside}, hint="own"
            ),
            self._mongo.log.count_documents(
                {
                    **conversation,
                    "senderId": {"$ne": user_id},
                    "deletedAt": {"$exists": True},
                    **inside,
                },
                hint="deleted",
            ),
            self._hidden(member, gaps),
        )
        return others - own - deleted - hidden

    async def _hidden(self, member: Document, gaps: list[Range]) -> int:
        """Returns how many messages in the ranges the member hid, not counting own or deleted ones."""
        if not member.get("hides"):
            return 0
        hides = self._mongo.log.find(
            {
                "hiddenFor": member["userId"],
                "conversationId": member["conversationId"],
                "hiddenSeq": {"$gte": gaps[0][0], "$lte": gaps[-1][1]},
                "hiddenSender": {"$ne": member["userId"]},
            },
            {"hiddenSeq": 1},
        )
        seqs = {
            doc["hiddenSeq"]
            async for doc in hides
            if any(first <= doc["hiddenSeq"] <= last for first, last in gaps)
        }
        if not seqs:
            return 0
        gone = await self._mongo.log.count_documents(
            {
                "conversationId": member["conversationId"],
                "seq": {"$in": list(seqs)},
                "deletedAt": {"$exists": True},
            },
            hint="deleted",
        )
        return len(seqs) - gone


def _any_of(gaps: list[Range]) -> Document:
    ranges = [{"seq": {"$gte": first, "$lte": last}} for first, last in gaps]
    return ranges[0] if len(ranges) == 1 else {"$or": ranges}
