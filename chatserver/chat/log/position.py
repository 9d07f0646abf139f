"""Reads the end of a conversation's log when it is not known, and settles writes without an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from ...clock import now
from ...mongo import Document, DuplicateKeyError, Mongo, Session
from ..message import entry_id, offset_of
from .entry import Entry
from .tail import ENDED, ConversationTail

MAX_OFFSET = 0xFFFFFFFF
CLOCKS_S = 2.0
"""How much the clocks of nodes may differ."""
_FIELDS = {"kind": 1, "lastSeq": 1, "lastRev": 1, "at": 1, "added": 1, "removed": 1}


async def last_entry(
    mongo: Mongo, conversation_id: str, session: Session | None = None
) -> Document | None:
    """Returns the latest entry of a conversation, without any content, or None."""
    return await mongo.log.find_one(
        {
            "_id": {
                "$gt": entry_id(conversation_id, 0),
                "$lte": entry_id(conversation_id, MAX_OFFSET),
            }
        },
        _FIELDS,
        sort=[("_id", -1)],
        session=session,
    )


class Position:
    """Moves tails to the end of their logs.

    `announce` is called with every entry that was committed here. `behind(conversation, after, known)` is
    called when the log has entries beyond the offset `after`, up to `known`, that were not announced here.
    `announce_stored(conversation, after, up_to)` announces the entries beyond `after` as they are in the log.
    """

    def __init__(
        self,
        mongo: Mongo,
        announce: Callable[[Entry], None],
        behind: Callable[[str, int, int], None],
        announce_stored: Callable[[str, int, int], Awaitable[None]],
    ) -> None:
        self._mongo = mongo
        self._announce = announce
        self._behind = behind
        self._announce_stored = announce_stored
        self._recent_age = timedelta(seconds=2 * mongo.timeout_s + CLOCKS_S)
        """Longer than it takes from the check of a change's caller to the commit. The change waits for a writer, whose
        batch ends within the time limit, and for its own batch."""

    async def of(self, conversation_id: str) -> tuple[int, int]:
        """Returns (lastSeq, lastRev) from the database."""
        doc = await last_entry(self._mongo, conversation_id)
        return (doc["lastSeq"], doc["lastRev"]) if doc else (0, 0)

    async def locate(self, tails: list[ConversationTail]) -> None:
        await asyncio.gather(*[self._locate_one(tail) for tail in tails])

    async def _locate_one(self, tail: ConversationTail) -> None:
        if tail.unsure:
            await self.make_sure(tail)
            return
        if tail.offset == ENDED:
            return
        if tail.offset >= 0:
            # Known before. Entries that other nodes wrote since have not been announced here.
            await self.catch_up(tail)
            return
        await self._find(tail)
        tail.seen_at = time.monotonic()

    async def _find(self, tail: ConversationTail) -> None:
        last = await last_entry(self._mongo, tail.id)
        if last is None:
            tail.seq, tail.rev, tail.offset = 0, 0, 0
        elif last["kind"] == "end":
            tail.offset = ENDED
        else:
            # The changes that wait were checked a moment ago: since then their users may have been removed.
            for doc in reversed([last, *await self._recent(tail, last)]):
                tail.advance(doc)

    async def _recent(self, tail: ConversationTail, last: Document) -> list[Document]:
        """Returns the recent entries before the last one, the latest first."""
        since = now() - self._recent_age
        recent: list[Document] = []
        if last["at"] > since:
            where = {"_id": {"$gt": entry_id(tail.id, 0), "$lt": last["_id"]}}
            async with self._mongo.log.find(where, _FIELDS).sort("_id", -1) as cursor:
                async for doc in cursor:
                    if doc["at"] < since:
                        break
                    recent.append(doc)
        return recent

    async def catch_up(self, tail: ConversationTail) -> None:
        """Read the entries beyond the tail."""
        before = tail.offset
        cursor = self._mongo.log.find(
            {"_id": {"$gt": entry_id(tail.id, before), "$lte": entry_id(tail.id, MAX_OFFSET)}},
            _FIELDS,
        ).sort("_id", 1)
        async for doc in cursor:
            tail.advance(doc)
            if tail.offset == ENDED:
                self._behind(tail.id, before, offset_of(doc["_id"]))
                return
        if tail.offset > before:
            self._behind(tail.id, before, tail.offset)
        tail.seen_at = time.monotonic()

    async def make_sure(self, tail: ConversationTail) -> None:
        """Find out, once and for all, whether a write without an answer was stored.

        The write may still be on its way to the database. So a fence is inserted at the offset of the
        write. If the fence is stored, the write can never be stored. If the fence is refused, an entry is
        already there, and is read. Once all offsets of the write have an entry, nothing of it is on its way any more,
        and no fence is needed. Otherwise another node that writes all the time could win the race for the fence for ever.
        """
        while True:
            if tail.offset < 0:
                await self._find(tail)
            else:
                await self.catch_up(tail)
            if tail.offset == ENDED or tail.offset >= tail.unsure_up_to > 0:
                break
            fence = {
                "_id": entry_id(tail.id, tail.offset + 1),
                "kind": "fence",
                "conversationId": tail.id,
                "lastSeq": tail.seq,
                "lastRev": tail.rev,
                "at": now(),
            }
            try:
                await self._mongo.log.insert_one(fence)
            except DuplicateKeyError:
                # An entry is there, but a majority may not have it yet, so a read may not find it.
                await asyncio.sleep(0.005)
                continue
            tail.advance(fence)
            self._announce(Entry(fence, None))
            break
        # Some of the entries may be writes of this node. Other nodes learn from it alone whom they concern.
        if tail.announced >= 0:
            await self._announce_stored(tail.id, tail.announced, tail.unsure_up_to)
        tail.seen_at = time.monotonic()
        tail.unsure = False
