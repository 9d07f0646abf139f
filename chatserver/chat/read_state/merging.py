"""Merges the receipts of long ago, so that a participant has a bounded number of them.

A merged receipt says that the messages in its range were read. The times are not kept any more: its `at` is EPOCH.
Receipts are merged below the participant's cumulative mark, when they are older than RECEIPT_DAYS, or when the
participant has MAX_RECEIPTS.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import pairwise

from ...clock import EPOCH, now
from ...mongo import Document, Mongo, Session, blocks
from .unread import Unread

EVERY = 64
"""A participant's receipts are merged after so many marks."""
AT_ONCE = 256
"""Receipts that are merged at a time. So many marks add fewer."""
MAX_RECEIPTS = 10_000
MAX_GAPS = 100
"""Ranges that were sent while the user was away, and so were not read. After more of them, they count as read."""


class _Changed(Exception):
    """Another process has merged some of the receipts."""


class Merging:
    def __init__(self, mongo: Mongo, unread: Unread, keep_days: int) -> None:
        self._mongo = mongo
        self._unread = unread
        self._keep = timedelta(days=keep_days)

    async def after_mark(self, member: Document, mark: int) -> None:
        """Merge the participant's receipts up to `mark`, if it is time. `member`: the document before the mark."""
        if (member.get("readVersion", 0) + 1) % EVERY:
            return
        where = {"conversationId": member["conversationId"], "userId": member["userId"]}
        found = self._mongo.receipts.find({**where, "to": {"$lte": mark}}, hint="range")
        first = [doc async for doc in found.sort("from").limit(AT_ONCE)]
        before = now() - self._keep
        if await self._mongo.receipts.count_documents(where, limit=MAX_RECEIPTS) == MAX_RECEIPTS:
            before = now()
        groups = await self._groups(member, [doc for doc in first if doc["at"] < before])
        merged = [docs for docs in groups if len(docs) > 1 or docs[0]["at"] != EPOCH]
        if merged:
            try:
                await self._mongo.transaction(partial(self._merge, merged))
            except _Changed:
                return

    async def _groups(self, member: Document, receipts: list[Document]) -> list[list[Document]]:
        """Returns the receipts in groups. Between those of a group there is nothing that the user has not read."""
        gaps = [(this["to"] + 1, following["from"] - 1) for this, following in pairwise(receipts)]
        unread = [(first, last) for first, last in gaps if first <= last]
        if unread and await self._unread.within(member, unread):
            unread = [gap for gap in unread if await self._unread.within(member, [gap])]
        else:
            unread = []
        if len(unread) > MAX_GAPS:
            unread = []
        groups = [receipts[:1]] if receipts else []
        for gap, receipt in zip(gaps, receipts[1:], strict=True):
            if gap in unread:
                groups.append([receipt])
            else:
                groups[-1].append(receipt)
        return groups

    async def _merge(self, groups: list[list[Document]], session: Session) -> None:
        ids = [receipt["_id"] for group in groups for receipt in group]
        which = {"_id": {"$in": ids}, "conversationId": groups[0][0]["conversationId"]}
        removed = await self._mongo.receipts.delete_many(which, session=session)
        if removed.deleted_count < len(ids):
            raise _Changed
        merged = [
            {
                "conversationId": group[0]["conversationId"],
                "userId": group[0]["userId"],
                "from": group[0]["from"],
                "to": group[-1]["to"],
                "blocks": blocks(group[0]["from"], group[-1]["to"]),
                "at": EPOCH,
            }
            for group in groups
        ]
        await self._mongo.receipts.insert_many(merged, session=session)
