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
"""Allows for the difference between the nodes' clocks, and for the time until a change is stored."""
AT_ONCE = 1000


class LocalUsers(Protocol):
    """The users who are connected to this node, and the rooms that they are in (see Cluster)."""

    def user_ids(self) -> list[str]: ...
    def hosts(self, user_id: str, room: str) -> bool: ...
    def arriving(self, user_id: str) -> Arrival:
        """Note the changes of the user's rooms that are applied from now on, until `abort_arrival`."""

    def abort_arrival(self, user_id: str, arrival: Arrival) -> None: ...
    def missed(self) -> None:
        """Request another catch-up."""

    def reached(self, room: str, offset: int) -> bool | None:
        """True if the changes up to `offset` count as applied here. None if the room is not followed here."""

    def found(self, room: str, offset: int, update: RoomUpdate) -> None:
        """Apply an update that was found in the database, on this node only."""


class MembershipCatchUp:
    """Disconnects blocked and deleted users, and puts users into the rooms of conversations they joined.

    It does the latter where this node did not follow the room. All other changes of membership are entries
    of rooms that this node follows, and are found by their offsets.
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
        """Returns the matching participants who are connected here but not in the conversation's room."""
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
        # Users who participated before the offset was read, and still do, can only leave by a later
        # change. That change is yet to be applied here, unless it was applied during these reads.
        still = await self._joined(set(watches), {"_id": {"$in": [doc["_id"] for doc in docs]}})
        followed_since = reached is None and self._local_users.reached(room, offset) is not None
        update = RoomUpdate()
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
            update.admit([user_id])
            update.emit_to(user_id, "conversation:new" if founder else "conversation:joined", view)
        if update.moves:
            self._local_users.found(room, offset, update)
