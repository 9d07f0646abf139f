"""The end of a conversation."""

from __future__ import annotations

from datetime import timedelta

from ..clock import iso, now
from ..mongo import RETENTION_S, Mongo, Session
from ..outbox.outbox import Outbox
from .log.log import Log
from .members import Members
from .rooms import Rooms


class Ending:
    def __init__(
        self, mongo: Mongo, log: Log, outbox: Outbox, members: Members, rooms: Rooms
    ) -> None:
        self._mongo = mongo
        self._log = log
        self._outbox = outbox
        self._members = members
        self._rooms = rooms

    async def end(self, actor_id: str, conversation_id: str) -> None:
        """End a conversation for all, and tell them; what is in it goes with it."""
        user_ids = await self._members.users_of(conversation_id)
        at = now()

        async def also(session: Session) -> None:
            await self._mongo.conversations.delete_one({"_id": conversation_id}, session=session)
            await self._mongo.participants.delete_many(
                {"conversationId": conversation_id}, session=session
            )
            payload = {
                "conversationId": conversation_id,
                "deletedBy": actor_id,
                "deletedAt": iso(at),
            }
            await self._outbox.append(
                session, "conversation.deleted", conversation_id, at, [payload]
            )

        await self._log.end(conversation_id, actor_id, also)
        self._rooms.expel(conversation_id, user_ids)
        for user_id in user_ids:
            self._rooms.emit_to(
                user_id, "conversation:removed", {"conversationId": conversation_id}
            )
        # The entries stay a while for the webhooks that tell of them, then the database drops them.
        await self._mongo.log.update_many(
            {"_id": {"$gt": f"{conversation_id}-", "$lt": f"{conversation_id}."}},
            {"$set": {"expiresAt": at + timedelta(seconds=RETENTION_S)}},
        )
        await self._mongo.receipts.delete_many({"conversationId": conversation_id})
