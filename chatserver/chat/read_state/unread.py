"""Unread counts. They are computed from the log, never incremented, so they cannot drift.

Unread messages are the ones not marked as read, less the user's own and the deleted and hidden ones.

A count that had to pass over many messages is stored in the participant's row, with the end of the log for which it is
right. The next count starts there: it counts what is newer, and subtracts what was deleted or hidden since. So a
count costs what has happened since the last one, and not what is unread.

A stored count stays right: a message never moves, and once deleted or hidden it never counts again. It belongs to one
state of the read marks, by its `readVersion`. A node of an earlier version that stores a mark leaves the stored count as
it is, but raises `readVersion`; then everything is counted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from ...mongo import Document, Mongo, PyMongoError, Session
from ..log.position import last_entry
from .counting import Count, Counting, within_each
from .ranges import Range, ReadSet

MANY = 200
"""A count is stored if it read so many entries of an index."""
FEW_GAPS = 4
"""So many ranges of a conversation may be in a query for many conversations."""


def read_set(member: Document) -> ReadSet:
    return ReadSet(
        member["lastReadSeq"], tuple((first, last) for first, last in member.get("ahead", ()))
    )


class _NotStored(Exception):
    """The row cannot be written now. A process that stalled, or another count, may have locked it. The count is right."""

    def __init__(self, count: int) -> None:
        self.count = count


class Unread:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def counts(self, members: Iterable[tuple[Document, int]]) -> list[int]:
        """Returns the unread count of each participant. `members`: documents from different conversations, each with
        the conversation's last seq."""
        wanted = [(member, last, read_set(member).missing(last)) for member, last in members]
        together = [(member, gaps) for member, _, gaps in wanted if _is_short(member, gaps)]
        apart = [(member, last) for member, last, gaps in wanted if not _is_short(member, gaps)]
        short, others = await asyncio.gather(
            within_each(self._mongo, together),
            asyncio.gather(*[self._count(member, last) for member, last in apart]),
        )
        of_member = {
            member["_id"]: count
            for (member, _), count in zip([*together, *apart], [*short, *others], strict=True)
        }
        return [of_member[member["_id"]] for member, _, _ in wanted]

    async def _count(self, member: Document, last: int) -> int:
        count, examined = await _up_to(Counting(self._mongo, member, MANY), last)
        if examined < MANY:
            return count
        try:
            return await self._mongo.transaction(partial(self._store, member["_id"]))
        except _NotStored as counted:
            return counted.count

    async def _store(self, member_id: str, session: Session) -> int:
        member = await self._mongo.participants.find_one({"_id": member_id}, session=session)
        if member is None:  # the user has just left
            return 0
        unread = await self._as_of_now(Counting(self._mongo, member, session=session))
        try:
            await self._mongo.participants.update_one(
                {"_id": member_id}, {"$set": {"unread": unread}}, session=session
            )
        except PyMongoError as error:
            raise _NotStored(unread["count"]) from error
        return int(unread["count"])

    async def _as_of_now(self, counting: Counting) -> Document:
        """Returns a count to store. Only a transaction sees the log and the row in one state."""
        member = counting.member
        last = await last_entry(self._mongo, member["conversationId"], counting.session)
        seq, rev = (last["lastSeq"], last["lastRev"]) if last else (0, 0)
        count, _ = await _up_to(counting, seq)
        return {"version": member.get("readVersion", 0), "seq": seq, "rev": rev, "count": count}

    async def after_mark(
        self, member: Document, became_read: list[Range], after: ReadSet, session: Session
    ) -> Document:
        """Returns the field of a participant's row with its stored count after a mark, if it is still of use.

        `member`: the row before the mark, as the transaction sees it."""
        stored = _stored(member)
        if stored is None or not after.missing(stored["seq"]):
            return {}
        counting = Counting(self._mongo, member, session=session)
        unread = await self._as_of_now(counting)
        read, _ = await counting.within(became_read)
        version, count = unread["version"] + 1, unread["count"] - read
        return {"unread": {**unread, "version": version, "count": count}}

    async def up_to(self, member: Document, seq: int) -> int:
        """Returns how many messages up to `seq` are unread."""
        count, _ = await _up_to(Counting(self._mongo, member), seq)
        return count

    async def within(self, member: Document, gaps: list[Range]) -> int:
        """Returns how many messages in these ranges would count as unread if none were marked as read."""
        count, _ = await Counting(self._mongo, member).within(gaps)
        return count


def _is_short(member: Document, gaps: list[Range]) -> bool:
    """True if what is unread may be counted together with that of other conversations."""
    length = sum(last - first + 1 for first, last in gaps)
    return length < MANY and len(gaps) <= FEW_GAPS and not member.get("hides")


def _stored(member: Document) -> Document | None:
    """Returns the stored count: as of `rev`, `count` messages up to `seq` were unread."""
    stored: Document | None = member.get("unread")
    return stored if stored and stored["version"] == member.get("readVersion", 0) else None


async def _up_to(counting: Counting, seq: int) -> Count:
    gaps = read_set(counting.member).missing(seq)
    stored = _stored(counting.member)
    if stored is None or stored["seq"] > seq:
        return await counting.within(gaps)
    then = stored["seq"]
    old = [(first, min(last, then)) for first, last in gaps if first <= then]
    new = [(max(first, then + 1), last) for first, last in gaps if last > then]
    (more, examined), (fewer, also) = await counting.each(
        partial(counting.within, new), partial(counting.ended, old, stored["rev"])
    )
    return stored["count"] + more - fewer, max(examined, also)
