"""Counts the messages in ranges that are unread by one participant, on indexes that hold only the others: the
participant's own messages, the deleted ones and the hidden ones. The conversation itself is never scanned.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TypeVar

from ...mongo import Document, Mongo, Session
from .ranges import Range

T = TypeVar("T")

ALL = 2**31 - 1

Count = tuple[int, int]
"""A number, and how many entries of an index were read for it. If these are `limit`, the number is wrong."""


@dataclass(frozen=True, slots=True)
class Counting:
    """Counts for `member`, as seen by the session's transaction. A query reads at most `limit` entries of an index."""

    mongo: Mongo
    member: Document
    limit: int = ALL
    session: Session | None = None

    async def within(self, gaps: list[Range]) -> Count:
        """Returns how many messages in these ranges would count as unread if none were marked as read."""
        if not gaps:
            return 0, 0
        inside = {"conversationId": self.member["conversationId"], **_any_of(gaps)}
        passed = await self.each(
            partial(self._own, inside), partial(self._deleted, inside), partial(self._hidden, gaps)
        )
        length = sum(last - first + 1 for first, last in gaps)
        return length - sum(count for count, _ in passed), max(read for _, read in passed)

    async def ended(self, gaps: list[Range], rev: int) -> Count:
        """Returns how many messages in these ranges counted at `rev`, but were deleted or hidden since."""
        if not gaps:
            return 0, 0
        deletions, hides = await self.each(
            partial(self._deletions, rev),
            partial(self._hides, "hidings", {"lastRev": {"$gt": rev}}),
        )
        deleted = self._of_others(deletions, "seq", "senderId", gaps)
        hidden = self._of_others(hides, "hiddenSeq", "hiddenSender", gaps)
        ended = deleted | hidden
        if deleted:
            earlier = {"hiddenSeq": {"$in": list(deleted)}, "lastRev": {"$lte": rev}}
            ended -= {hide["hiddenSeq"] for hide in await self._hides("hidden", earlier)}
        return len(ended), max(len(deletions), len(hides))

    async def each(self, *parts: Callable[[], Awaitable[T]]) -> list[T]:
        """Runs the parts at the same time, or one after another in a transaction, which allows nothing else."""
        if self.session is None:
            return await asyncio.gather(*[part() for part in parts])
        return [await part() for part in parts]

    async def _own(self, inside: Document) -> Count:
        own = await self.mongo.log.count_documents(
            {**inside, "senderId": self.member["userId"]},
            hint="own",
            limit=self.limit,
            session=self.session,
        )
        return own, own

    async def _deleted(self, inside: Document) -> Count:
        """Counts the deleted messages of others."""
        of_others = {"$cond": [{"$ne": ["$senderId", self.member["userId"]]}, 1, 0]}
        found = await self.mongo.log.aggregate(
            [
                {"$match": {**inside, "deletedAt": {"$exists": True}}},
                {"$limit": self.limit},
                {"$group": {"_id": None, "others": {"$sum": of_others}, "all": {"$sum": 1}}},
            ],
            hint="deleted",
            session=self.session,
        )
        async for doc in found:
            return doc["others"], doc["all"]
        return 0, 0

    async def _hidden(self, gaps: list[Range]) -> Count:
        """Counts the messages of others that the member hid and that are not deleted."""
        between = {"hiddenSeq": {"$gte": gaps[0][0], "$lte": gaps[-1][1]}}
        hides = await self._hides("hidden", between)
        seqs = self._of_others(hides, "hiddenSeq", "hiddenSender", gaps)
        if not seqs:
            return 0, len(hides)
        deleted = await self.mongo.log.count_documents(
            {
                "conversationId": self.member["conversationId"],
                "seq": {"$in": list(seqs)},
                "deletedAt": {"$exists": True},
            },
            hint="deleted",
            session=self.session,
        )
        return len(seqs) - deleted, len(hides)

    async def _deletions(self, rev: int) -> list[Document]:
        """Returns the messages that were deleted after `rev`. The deletion is the last change of a message."""
        where = {
            "conversationId": self.member["conversationId"],
            "rev": {"$gt": rev},
            "deletedAt": {"$exists": True},
        }
        found = self.mongo.log.find(
            where, {"seq": 1, "senderId": 1}, hint="deletions", session=self.session
        )
        return [doc async for doc in found.limit(self.limit)]

    async def _hides(self, index: str, which: Document) -> list[Document]:
        """Returns the entries by which the member hid messages."""
        if not self.member.get("hides"):
            return []
        where = {
            "hiddenFor": self.member["userId"],
            "conversationId": self.member["conversationId"],
            **which,
        }
        fields = {"hiddenSeq": 1, "hiddenSender": 1}
        found = self.mongo.log.find(where, fields, hint=index, session=self.session)
        return [doc async for doc in found.limit(self.limit)]

    def _of_others(
        self, docs: list[Document], seq: str, sender: str, gaps: list[Range]
    ) -> set[int]:
        """Returns the numbers of the messages in the ranges that are not the member's own."""
        return {
            doc[seq]
            for doc in docs
            if doc[sender] != self.member["userId"] and _is_in(doc[seq], gaps)
        }


async def within_each(mongo: Mongo, parts: Sequence[tuple[Document, list[Range]]]) -> list[int]:
    """Counts like `Counting.within`, for participants of different conversations, with two queries for all of them.

    They have hidden nothing, and the queries read as many entries as the ranges are long."""
    own: list[Document] = []
    deleted: list[Document] = []
    for member, gaps in parts:
        for first, last in gaps:
            inside = {
                "conversationId": member["conversationId"],
                "seq": {"$gte": first, "$lte": last},
            }
            own.append({**inside, "senderId": member["userId"]})
            of_others = {"$ne": member["userId"]}
            deleted.append({**inside, "senderId": of_others, "deletedAt": {"$exists": True}})

    async def by_conversation(which: list[Document], index: str) -> dict[str, int]:
        # Without the hint, MongoDB tries every index for every range: 20 ms for 50 of them, not 3.
        found = await mongo.log.aggregate(
            [
                {"$match": {"$or": which}},
                {"$group": {"_id": "$conversationId", "count": {"$sum": 1}}},
            ],
            hint=index,
        )
        return {doc["_id"]: doc["count"] async for doc in found}

    if not own:
        return [0] * len(parts)
    passed = await asyncio.gather(by_conversation(own, "own"), by_conversation(deleted, "deleted"))
    return [
        sum(last - first + 1 for first, last in gaps)
        - sum(counts.get(member["conversationId"], 0) for counts in passed)
        for member, gaps in parts
    ]


def _is_in(seq: int, gaps: list[Range]) -> bool:
    at = bisect_right(gaps, seq, key=itemgetter(0))
    return at > 0 and seq <= gaps[at - 1][1]


def _any_of(gaps: list[Range]) -> Document:
    ranges = [{"seq": {"$gte": first, "$lte": last}} for first, last in gaps]
    return ranges[0] if len(ranges) == 1 else {"$or": ranges}
