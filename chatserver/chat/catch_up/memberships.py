"""Finds the changes of membership, and the blocked and deleted users, that this node missed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from ...clock import now
from ...errors import NotFound
from ...mongo import DatabaseUnavailable, Document, Mongo, deadline
from ...realtime.rooms.rooms import Arrival
from ...realtime.rooms.sequencer import Unreadable
from ...realtime.rooms.update import RoomUpdate
from ..users import Users
from ..views import Views
from .log_reader import LogReader

MARGIN = timedelta(seconds=60)
"""How far the nodes' clocks may be apart, and how long a change may take to be on record."""
AT_ONCE = 1000


class LocalUsers(Protocol):
    """The users who are connected to this node, and the rooms that they are in (see Cluster)."""

    def user_ids(self) -> list[str]: ...
    def hosts(self, user_id: str, room: str) -> bool: ...
    def arriving(self, user_id: str) -> Arrival:
        """Note what is performed of the user from now on, until `abort_arrival`."""

    def abort_arrival(self, user_id: str, arrival: Arrival) -> None: ...
    def missed(self) -> None:
        """Look again."""

    def reached(self, room: str, offset: int) -> bool | None:
        """Whether the changes up to `offset` count as performed here; None when nobody follows them."""

    def found(self, room: str, offset: int, update: RoomUpdate) -> None:
        """Perform on this node what is on record."""


class MembershipCatchUp:
    """Shuts out users who were blocked or deleted meanwhile, and brings users into the rooms of
    conversations that they joined and that this node did not follow. Every other change of membership
    has an offset in a room that this node follows, and is found by that.
    """

    def __init__(
        self,
        mongo: Mongo,
        log_reader: LogReader,
        users: Users,
        views: Views,
        local_users: LocalUsers,
    ) -> None:
        self._mongo = mongo
        self._log_reader = log_reader
        self._users = users
        self._views = views
        self._local_users = local_users

    async def run(self, seconds: float) -> None:
        """Catch up on the last `seconds`. Raises Unreadable."""
        since = now() - timedelta(seconds=seconds) - MARGIN
        try:
            user_ids = self._local_users.user_ids()
            for n in range(0, len(user_ids), AT_ONCE):
                async with deadline():
                    await self._users.shut_out_inactive(user_ids[n : n + AT_ONCE])
            async with deadline():
                await self._find_joined(set(user_ids), since)
        except DatabaseUnavailable as error:
            raise Unreadable from error

    async def _find_joined(self, user_ids: set[str], since: datetime) -> None:
        found = await self._joined(user_ids, {"joinedAt": {"$gte": since}})
        if not found:
            return
        watches = {
            user_id: self._local_users.arriving(user_id)
            for user_id in {doc["userId"] for doc in found}
        }
        try:
            joined: dict[str, list[Document]] = {}
            for doc in found:
                joined.setdefault(doc["conversationId"], []).append(doc)
            for room, offset in (await self._log_reader.positions(joined)).items():
                await self._bring_in(room, offset, joined[room], watches)
        finally:
            for user_id, watch in watches.items():
                self._local_users.abort_arrival(user_id, watch)

    async def _joined(self, user_ids: set[str], which: Document) -> list[Document]:
        """Those who are here and not in the rooms of these participations."""
        fields = {"conversationId": 1, "userId": 1, "joinedAt": 1}
        return [
            doc
            async for doc in self._mongo.participants.find(which, fields)
            if doc["userId"] in user_ids
            and not self._local_users.hosts(doc["userId"], doc["conversationId"])
        ]

    async def _bring_in(
        self, room: str, offset: int, docs: list[Document], watches: Mapping[str, Arrival]
    ) -> None:
        try:
            view = await self._views.conversation(room)
        except NotFound:
            return
        conversation = await self._mongo.conversations.find_one({"_id": room}, {"createdAt": 1})
        created_at: Any = conversation and conversation["createdAt"]
        reached = self._local_users.reached(room, offset)
        # Who is still in since before the offset was read goes, if at all, by a later change: that is
        # to come, unless it was performed while this was read.
        still = await self._joined(set(watches), {"_id": {"$in": [doc["_id"] for doc in docs]}})
        followed_since = reached is None and self._local_users.reached(room, offset) is not None
        update = RoomUpdate()
        for doc in still:
            user_id, founder = doc["userId"], doc["joinedAt"] == created_at
            if (
                followed_since
                or doc not in docs
                or room in watches[user_id].changes
                # Joining is a change of the room, and may be among those that are still to be told.
                or (reached is False and not founder)
            ):
                self._local_users.missed()
                continue
            update.admit([user_id])
            update.emit_to(user_id, "conversation:new" if founder else "conversation:joined", view)
        if update.moves:
            self._local_users.found(room, offset, update)
