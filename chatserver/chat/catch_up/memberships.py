"""Finds the changes of membership, and the blocked and deleted users, that this node missed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Generic

from ...clock import now
from ...errors import NotFound
from ...mongo import Document, Mongo
from ..deletion import ConversationDeletion
from ..outside import Arrival, LocalUsers, Update
from ..signals import Hidden
from ..users import Users
from ..views import Views
from .log_reader import LogReader

MARGIN = timedelta(seconds=60)
"""Allows for the difference between the nodes' clocks, and for the time until a change is stored."""
AT_ONCE = 1000


class MembershipCatchUp(Generic[Update]):
    """Disconnects blocked and deleted users, learns of deleted conversations, and puts users into the rooms of
    conversations they joined.

    It does the last where this node did not follow the room. All other changes of membership are entries
    of rooms that this node follows, and are found by their offsets.
    """

    def __init__(
        self,
        mongo: Mongo,
        log_reader: LogReader[Update],
        users: Users,
        views: Views,
        deletion: ConversationDeletion,
        local_users: LocalUsers[Update],
    ) -> None:
        self._mongo = mongo
        self._log_reader = log_reader
        self._users = users
        self._views = views
        self._deletion = deletion
        self._local_users = local_users

    async def run(self, seconds: float) -> None:
        """Catch up on the last `seconds`. Raises DatabaseUnavailable."""
        since = now() - timedelta(seconds=seconds) - MARGIN
        user_ids = self._local_users.user_ids()
        for n in range(0, len(user_ids), AT_ONCE):
            async with self._mongo.deadline():
                await self._users.shut_out_inactive(user_ids[n : n + AT_ONCE])
        async with self._mongo.deadline():
            await self._deletion.find_ended()
            await self._find_joined(set(user_ids), since)

    async def _find_joined(self, user_ids: set[str], since: datetime) -> None:
        found = await self._joined(user_ids, {"joinedAt": {"$gte": since}})
        if not found:
            return
        joined: dict[str, list[Document]] = {}
        for doc in found:
            joined.setdefault(doc["conversationId"], []).append(doc)
        with self._local_users.watching({doc["userId"] for doc in found}) as watches:
            for room, offset in (await self._log_reader.positions(joined)).items():
                await self._bring_in(room, offset, joined[room], watches)

    async def _joined(self, user_ids: set[str], which: Document) -> list[Document]:
        """Returns the matching participants who are connected here, but not with all sockets in the room."""
        fields = {"conversationId": 1, "userId": 1, "joinedAt": 1, "hides": 1}
        return [
            doc
            async for doc in self._mongo.participants.find(which, fields)
            if doc["userId"] in user_ids
            and self._local_users.lacks(doc["userId"], doc["conversationId"])
        ]

    async def _bring_in(
        self, room: str, offset: int, docs: list[Document], watches: Mapping[str, Arrival]
    ) -> None:
        try:
            view = await self._views.conversation(room)
            hiding = [doc["userId"] for doc in docs if doc.get("hides")]
            own_views = await self._views.own_views(room, hiding)
        except NotFound:
            return
        conversation = await self._mongo.conversations.find_one({"_id": room}, {"createdAt": 1})
        created_at: Any = conversation and conversation["createdAt"]
        reached = self._local_users.reached(room, offset)
        # Users who participated before the offset was read, and still do, can only leave by a later
        # change. That change is yet to be applied here, unless it was applied during these reads.
        still = await self._joined(set(watches), {"_id": {"$in": [doc["_id"] for doc in docs]}})
        followed_since = reached is None and self._local_users.reached(room, offset) is not None
        founders = [doc for doc in still if doc["joinedAt"] == created_at]
        if founders and reached is None and not followed_since:
            # This node missed the creation. It reads from the log what has happened since then: the messages, and
            # who joined.
            offset, still = 0, founders
        update = self._local_users.new_update()
        told: dict[str, list[str]] = {"conversation:new": [], "conversation:joined": []}
        for doc in still:
            user_id, founder = doc["userId"], doc["joinedAt"] == created_at
            if (
                followed_since
                or doc not in docs
                or room in watches[user_id].changes
                # The join is itself a change of the room, and may be one that is yet to be applied here.
                or (reached is False and not founder)
            ):
                self._local_users.missed()
                continue
            if doc.get("hides"):
                update.signal(Hidden(user_id, room))
            update.admit([user_id])
            event = "conversation:new" if founder else "conversation:joined"
            if user_id in own_views:
                update.emit_to(user_id, event, own_views[user_id])
            else:
                told[event].append(user_id)
        for event, user_ids in told.items():
            update.emit_to_each(user_ids, event, view)
        if update.moves:
            self._local_users.found(room, offset, update)
