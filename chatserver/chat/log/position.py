"""Where the log of a conversation stands, and finding out when that is not known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from ...clock import now
from ...mongo import Document, DuplicateKeyError, Mongo, Session
from ..message import Message, entry_id, rev_of
from .entry import Entry
from .tail import ENDED, Tail

log = structlog.get_logger(__name__)

MAX_REV = 0xFFFFFFFF


async def last_entry(
    mongo: Mongo, conversation_id: str, session: Session | None = None
) -> Document | None:
    """The latest entry of a conversation: its id, kind and lastSeq."""
    return await mongo.log.find_one(
        {"_id": {"$gt": entry_id(conversation_id, 0), "$lte": entry_id(conversation_id, MAX_REV)}},
        {"lastSeq": 1, "kind": 1},
        sort=[("_id", -1)],
        session=session,
    )


class Position:
    """Reads where a conversation stands, and announces what had not been announced."""

    def __init__(self, mongo: Mongo, announce: Callable[[Entry], None]) -> None:
        self._mongo = mongo
        self._announce = announce

    async def of(self, conversation_id: str) -> tuple[int, int]:
        """(lastSeq, lastRev) as the database has them."""
        doc = await last_entry(self._mongo, conversation_id)
        return (doc["lastSeq"], rev_of(doc["_id"])) if doc else (0, 0)

    async def locate(self, tails: list[Tail]) -> None:
        await asyncio.gather(*[self._locate_one(tail) for tail in tails])

    async def _locate_one(self, tail: Tail) -> None:
        if tail.unsure:
            await self.make_sure(tail)
            return
        if tail.rev == ENDED:
            return
        if tail.rev >= 0:
            # Known once: what came since from elsewhere has not been announced here.
            await self.catch_up(tail)
            return
        doc = await last_entry(self._mongo, tail.id)
        if doc is None:
            tail.seq, tail.rev = 0, 0
        elif doc["kind"] == "end":
            tail.rev = ENDED
        else:
            tail.seq, tail.rev = doc["lastSeq"], rev_of(doc["_id"])
        tail.seen_at = time.monotonic()

    async def catch_up(self, tail: Tail) -> None:
        """Read and announce what the log has beyond what this node knows of it.

        A message appears as it is by now: what was done to it since is not told again.
        """
        entries = [
            doc
            async for doc in self._mongo.log.find(
                {"_id": {"$gt": entry_id(tail.id, tail.rev), "$lte": entry_id(tail.id, MAX_REV)}}
            ).sort("_id", 1)
        ]
        targets = {doc["messageId"] for doc in entries if "messageId" in doc}
        messages = {
            doc["_id"]: doc async for doc in self._mongo.log.find({"_id": {"$in": list(targets)}})
        }
        created = {doc["_id"] for doc in entries if doc["kind"] == "message"}
        for doc in entries:
            if doc["kind"] == "end":
                tail.rev = ENDED
                return
            tail.seq, tail.rev = doc["lastSeq"], rev_of(doc["_id"])
            if doc["kind"] == "message":
                self.tell(Entry(doc, Message(doc)))
            elif doc["kind"] == "hide" or (
                doc["kind"] != "fence" and doc["messageId"] not in created
            ):
                self.tell(Entry(doc, Message(messages[doc["messageId"]])))
        tail.seen_at = time.monotonic()

    async def make_sure(self, tail: Tail) -> None:
        """After a write without an answer: find out what became of it, for good.

        It may still be on its way to the database. A fence takes the rev that the write would
        have: if the fence gets in, the write never will; if it does not, the write is there.
        """
        while True:
            if tail.rev < 0:
                doc = await last_entry(self._mongo, tail.id)
                tail.rev = rev_of(doc["_id"]) if doc else 0
                tail.seq = doc["lastSeq"] if doc else 0
                if doc and doc["kind"] == "end":
                    tail.rev = ENDED
            else:
                await self.catch_up(tail)
            if tail.rev == ENDED:
                break
            try:
                await self._mongo.log.insert_one(
                    {
                        "_id": entry_id(tail.id, tail.rev + 1),
                        "kind": "fence",
                        "conversationId": tail.id,
                        "lastSeq": tail.seq,
                        "at": now(),
                    }
                )
            except DuplicateKeyError:
                # There, but perhaps not yet with the majority that is read from.
                await asyncio.sleep(0.005)
                continue
            tail.rev += 1
            break
        tail.seen_at = time.monotonic()
        tail.unsure = False

    def tell(self, entry: Entry) -> None:
        try:
            self._announce(entry)
        except Exception:
            # It is committed: a fault in telling of it may not undo the batch that it came with.
            log.exception("announcing failed", entry=entry.doc["_id"])
