"""Deletes conversations, and later clears their entries, receipts and absences."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from .. import tasks
from ..clock import now
from ..mongo import DEAD_RETENTION_S, RETENTION_S, Mongo, PyMongoError, Session, is_down
from .log.entry import ConversationChange
from .outside import ConversationRooms

log = structlog.get_logger(__name__)

CLEAR_AFTER_S = 5.0
CLEAR_EVERY_S = 600.0
"""How often deleted conversations are checked for ones that can be cleared."""


class ConversationDeletion:
    """Deletes conversations, and clears their entries, receipts and absences once no delivery needs them."""

    def __init__(self, mongo: Mongo, rooms: ConversationRooms) -> None:
        self._mongo = mongo
        self._rooms = rooms
        self._ended = asyncio.Event()
        self._task = tasks.keep("clear deleted conversations", self._keep_clearing)

    async def delete(self, conversation_id: str, session: Session) -> ConversationChange:
        """Delete a conversation, as the change that a transaction of the log makes."""
        await self._mongo.conversations.delete_one({"_id": conversation_id}, session=session)
        await self._mongo.participants.delete_many(
            {"conversationId": conversation_id}, session=session
        )
        # In the same transaction, so that it is cleared later even if this process dies.
        await self._mongo.ended.insert_one({"_id": conversation_id, "at": now()}, session=session)
        return ConversationChange("end", now(), {})

    async def deleted(self, conversation_id: str, offset: int) -> None:
        """The deletion has been committed, at this offset.

        Returns when every node has taken the participants out of the room, or after one second.
        """
        self._ended.set()
        await self._rooms.confirmed(conversation_id, offset)

    async def close(self) -> None:
        await tasks.end(self._task)

    async def _keep_clearing(self) -> None:
        while True:
            try:
                async for doc in self._mongo.ended.find({}):
                    await self._clear(doc["_id"])
            except PyMongoError as error:
                if not is_down(error):
                    raise
                log.warning("clearing deleted conversations waits for the database")
            try:
                async with asyncio.timeout(CLEAR_EVERY_S):
                    await self._ended.wait()
                    self._ended.clear()
                    await asyncio.sleep(CLEAR_AFTER_S)
            except TimeoutError:
                continue

    async def _clear(self, conversation_id: str) -> None:
        entries = {"_id": {"$gt": f"{conversation_id}-", "$lt": f"{conversation_id}."}}
        if await self._mongo.log.find_one({**entries, "due": {"$exists": True}}, {"_id": 1}):
            # Entries are the records of events, and some have not been delivered.
            return
        # Entries are kept for replay until they expire. Then the database removes them.
        dead = await self._mongo.deadletters.find_one({"key": conversation_id}, {"_id": 1})
        keep_s = DEAD_RETENTION_S if dead else RETENTION_S
        await self._mongo.log.update_many(
            entries, {"$set": {"expiresAt": now() + timedelta(seconds=keep_s)}}
        )
        await self._mongo.receipts.delete_many({"conversationId": conversation_id})
        await self._mongo.reactions.delete_many({"messageId": entries["_id"]})
        await self._mongo.absences.delete_many(
            {"_id": {"$gt": f"{conversation_id}:", "$lt": f"{conversation_id};"}}
        )
        await self._mongo.ended.delete_one({"_id": conversation_id})
