"""The order of conversation lists: the time of the last message in each conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog

from ..clock import now
from ..mongo import Document, Mongo, PyMongoError, Session
from ..mongo.failures import is_down
from ..mongo.schema import LISTS
from ..mongo.write_behind import LatestDates

log = structlog.get_logger(__name__)

AT_ONCE = 1000
"""Conversations in one write of a repair."""


class Recency(LatestDates):
    """Keeps `activityAt`, the time of a conversation's last message, by which lists are ordered.

    It is derived from the log and written behind it, to the conversation and then to the rows of its
    participants, so that an index has each user's list in its order. The rows of a large conversation, which has
    the field `large`, have no `activityAt`: there a message costs no write per member. A row without it is
    always right, because a list then takes the conversation's.

    `repair` makes up for writes that a crash prevented, and for nodes of an earlier version, which write to
    conversations only.
    """

    PACE_S = 0.5
    ROWS_S = 0.5
    REPAIR_S = 60.0
    KEEP_UP_S = 5.0

    def __init__(self, mongo: Mongo, *, large: int) -> None:
        """`large`: a conversation with more participants is large."""
        # Other nodes read these dates for their lists, and cannot flush the ones that wait here.
        super().__init__(mongo, "conversations", "activityAt", pace_s=self.PACE_S, share=0.05)
        self._large = large
        self._repair_from: datetime | None = None
        """The time since which nodes of an earlier version may have written."""

    async def _write(self, dates: Mapping[str, datetime]) -> None:
        await super()._write(dates)
        # The order of these three matters. A transaction in which users join, or which moves the order from the
        # rows to the conversation or back, writes the conversation: it either sees the new date, or is seen here.
        which = {"_id": {"$in": list(dates)}, "large": {"$exists": False}}
        small = self._mongo.conversations.find(which, {"_id": 1}, batch_size=len(dates))
        if on_rows := {doc["_id"]: dates[doc["_id"]] async for doc in small}:
            await self._write_rows(on_rows)

    async def _write_rows(self, dates: Mapping[str, datetime]) -> None:
        try:
            await self._mongo.raise_dates_of(
                "participants", "conversationId", "activityAt", dates, self.ROWS_S
            )
        except PyMongoError as error:
            if not is_down(error):
                raise
            # A process that stalled has locked a row. Its conversation is written later, and the others now.
            if len(dates) == 1:
                self.touch(*next(iter(dates.items())))
                return
            alone = [self._write_rows({doc_id: at}) for doc_id, at in dates.items()]
            await asyncio.gather(*alone)

    # --- rows that join, and conversations that become large or small ---------------------------

    def created(self, participants: int, at: datetime) -> tuple[Document, Document]:
        """Returns the fields of a new conversation, and of its participants."""
        if participants > self._large:
            return {"activityAt": at, "large": True}, {}
        return {"activityAt": at}, {"activityAt": at}

    async def counted(
        self, conversation: Document, participants: int, session: Session
    ) -> Document:
        """Move the order to the conversation, or to its participants, if their number crosses the limit.

        Returns the fields of those who join. The transaction must write the conversation.
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
        await self._mongo.participants.update_many(
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
        self._repair_from = state.get("from")
        newest = await self._mongo.log.find_one({}, {"at": 1}, sort=[("at", -1)])
        if newest is not None:
            await self._repair(min(newest["at"], self._repair_from or newest["at"]))

    async def keep_up(self, others_are_older: Callable[[], bool]) -> None:
        """Repair the order while nodes of an earlier version write, and once more after the last one. Runs until
        cancelled."""
        done = now()
        while True:
            await asyncio.sleep(self.KEEP_UP_S)
            older = others_are_older()
            if not older and self._repair_from is None:
                continue
            began = now()
            try:
                if self._repair_from is None:
                    self._repair_from = done
                    await self._mongo.schema.update_one(
                        {"_id": LISTS}, {"$min": {"from": done}}, upsert=True
                    )
                await self._repair(done)
                if not older:
                    await self._mongo.schema.update_one({"_id": LISTS}, {"$unset": {"from": ""}})
                    self._repair_from = None
                done = began
            except PyMongoError as error:
                if not is_down(error):
                    raise
                log.warning("repairing the order of conversation lists waits for the database")

    async def _repair(self, since: datetime) -> None:
        """Write the dates of messages since that time, and those of the participants who joined."""
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
        joined = await self._mongo.participants.aggregate(
            [
                {"$match": {"joinedAt": {"$gte": since}, "activityAt": {"$exists": False}}},
                {"$group": {"_id": "$conversationId"}},
            ]
        )
        for conversation_id in [doc["_id"] async for doc in joined]:
            await self._level(conversation_id)

    async def _apply_limit(self) -> None:
        is_large = {"$gt": ["$memberCount", self._large]}
        was_large = {"$eq": ["$large", True]}
        wrong = self._mongo.conversations.find(
            {"$expr": {"$ne": [is_large, was_large]}}, {"_id": 1}
        )
        async for doc in wrong:
            await self._level(doc["_id"])

    async def _level(self, conversation_id: str) -> None:
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
        try:
            await super().close()
        except PyMongoError as error:
            # The next start repairs it.
            log.warning("the order of conversation lists was not written", error=str(error))
