"""The order of conversation lists: the time of the last message in each conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from ..clock import now
from ..mongo import Document, Mongo, PyMongoError, Session
from ..mongo.failures import is_down
from ..mongo.schema import LISTS
from ..mongo.write_behind import LatestDates
from ..observability.metrics import Families

log = structlog.get_logger(__name__)

AT_ONCE = 1000
"""Conversations in one write of a repair."""


class Recency(LatestDates):
    """Keeps `activityAt`, the time of a conversation's last message, by which lists are ordered.

    It is derived from the log and written behind it, to the conversation and then to its rows, the memberships of its
    participants, so that an index has each user's list in its order. The rows are written when a conversation wakes
    up, and then every HOLD_S. The rows of a large conversation, which has the field `large`, have no `activityAt`:
    there a message costs no write per member. So a list takes the conversation's date, unless the row has one from
    before `settled()`.

    `repair` makes up for writes that a crash prevented, and for nodes of an earlier version, which write to
    conversations only (see repairs.py).
    """

    PACE_S = 0.5
    ROWS_S = 0.5
    HOLD_S = 10.0
    SETTLE_S = 3.0
    """The time that a due write to rows may take."""
    REPAIR_S = 60.0

    def __init__(self, mongo: Mongo, *, large: int) -> None:
        """`large`: a conversation with more participants is large."""
        # Other nodes read these dates for their lists, and cannot flush the ones that wait here.
        super().__init__(mongo, "conversations", "activityAt", pace_s=self.PACE_S, share=0.05)
        self._large = large
        self._held: dict[str, datetime | None] = {}
        """Conversations whose rows were written in the last HOLD_S, and the latest date since then."""

    async def _write(self, dates: Mapping[str, datetime]) -> None:
        await super()._write(dates)
        # The order of these three matters. A transaction in which users join, or which moves the order from the
        # rows to the conversation or back, writes the conversation: it either sees the new date, or is seen here.
        due = {doc_id: at for doc_id, at in dates.items() if doc_id not in self._held}
        self._held |= {doc_id: at for doc_id, at in dates.items() if doc_id in self._held}
        if not due:
            return
        which = {"_id": {"$in": list(due)}, "large": {"$exists": False}}
        small = self._mongo.conversations.find(which, {"_id": 1}, batch_size=len(due))
        on_rows = {doc["_id"]: due[doc["_id"]] async for doc in small}
        locked = await self._write_rows(on_rows) if on_rows else set()
        for doc_id in locked:
            self._write_again(doc_id, due[doc_id])
        loop = asyncio.get_running_loop()
        for doc_id in due.keys() - locked:
            self._held[doc_id] = None
            loop.call_later(self.HOLD_S, self._release, doc_id)

    def _release(self, doc_id: str) -> None:
        if (at := self._held.pop(doc_id, None)) is not None:
            self._write_again(doc_id, at)

    def _write_again(self, doc_id: str, at: datetime) -> None:
        if doc_id not in self._dirty:  # otherwise a later date waits
            self.touch(doc_id, at)

    def settled(self) -> datetime:
        """Returns the time before which the dates in rows are those of their conversations."""
        return now() - timedelta(seconds=self.HOLD_S + self.SETTLE_S)

    def watch(self, metrics: Families) -> None:
        super().watch(metrics)
        metrics.memory("conversations with a new order", lambda: len(self._held), None)

    async def _write_rows(self, dates: Mapping[str, datetime]) -> set[str]:
        """Returns the conversations that could not be written."""
        try:
            await self._mongo.raise_dates_of(
                "memberships", "conversationId", "activityAt", dates, self.ROWS_S
            )
        except PyMongoError as error:
            if not is_down(error):
                raise
            # A process that stalled has locked a row. Its conversation is written later, and the others now.
            if len(dates) == 1:
                return set(dates)
            alone = [self._write_rows({doc_id: at}) for doc_id, at in dates.items()]
            return set().union(*await asyncio.gather(*alone))
        return set()

    # --- rows that join, and conversations that become large or small ---------------------------

    def created(self, participants: int, at: datetime) -> tuple[Document, Document]:
        """Returns the fields of a new conversation, and of its rows."""
        if participants > self._large:
            return {"activityAt": at, "large": True}, {}
        return {"activityAt": at}, {"activityAt": at}

    async def counted(
        self, conversation: Document, participants: int, session: Session
    ) -> Document:
        """Move the order to the conversation, or to its rows, if the number of participants crosses the limit.

        Returns the fields of the rows of those who join. The transaction must write the conversation.
        """
        is_large = participants > self._large
        if is_large != conversation.get("large", False):
            await self._move(conversation, session, is_large=is_large)
        return {} if is_large else {"activityAt": conversation["activityAt"]}

    async def _move(self, conversation: Document, session: Session, *, is_large: bool) -> None:
        rows: Document = {"$set": {"activityAt": conversation["activityAt"]}}
        own: Document = {"$unset": {"large": ""}}
        if is_large:
            rows, own = {"$unset": {"activityAt": ""}}, {"$set": {"large": True}}
        await self._mongo.memberships.update_many(
            {"conversationId": conversation["_id"], "activityAt": {"$exists": is_large}},
            rows,
            session=session,
        )
        await self._mongo.conversations.update_one(
            {"_id": conversation["_id"]}, own, session=session
        )

    # --- what others wrote, or what was not written ---------------------------------------------

    async def start(self) -> None:
        """Repair the order. Apply the limit, if it has changed, to the conversations that exist."""
        state = await self._mongo.schema.find_one({"_id": LISTS}) or {}
        if state.get("large") != self._large:
            await self._apply_limit()
            await self._mongo.schema.update_one(
                {"_id": LISTS}, {"$set": {"large": self._large}}, upsert=True
            )
        newest = await self._mongo.log.find_one({}, {"at": 1}, sort=[("at", -1)])
        if newest is not None:
            await self.repair(newest["at"])

    async def repair(self, since: datetime) -> None:
        """Write the dates of messages since that time."""
        since -= timedelta(seconds=self.REPAIR_S)
        cursor = await self._mongo.log.aggregate(
            [
                {"$match": {"at": {"$gte": since}, "kind": "message"}},
                {"$group": {"_id": "$conversationId", "at": {"$max": "$at"}}},
            ]
        )
        latest = [(doc["_id"], doc["at"]) async for doc in cursor]
        for n in range(0, len(latest), AT_ONCE):
            await self._write(dict(latest[n : n + AT_ONCE]))

    async def _apply_limit(self) -> None:
        is_large = {"$gt": ["$memberCount", self._large]}
        was_large = {"$eq": ["$large", True]}
        wrong = self._mongo.conversations.find(
            {"$expr": {"$ne": [is_large, was_large]}}, {"_id": 1}
        )
        async for doc in wrong:
            await self.level(doc["_id"])

    async def level(self, conversation_id: str) -> None:
        """Put the order where it belongs: on the conversation, or on the row of every participant."""

        async def transaction(session: Session) -> None:
            conversation = await self._mongo.conversations.find_one_and_update(
                {"_id": conversation_id}, {"$inc": {"levelled": 1}}, session=session
            )
            if conversation is None:
                return
            participants = await self._mongo.participants.count_documents(
                {"conversationId": conversation_id}, limit=self._large + 1, session=session
            )
            await self._move(conversation, session, is_large=participants > self._large)

        await self._mongo.transaction(transaction)

    async def close(self) -> None:
        for doc_id in list(self._held):
            self._release(doc_id)
        try:
            await super().close()
        except PyMongoError as error:
            # The next start repairs it.
            log.warning("the order of conversation lists was not written", error=str(error))
