"""Finds the notices that have no offset (presence and read marks) and that this node missed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from ...mongo import Document, Mongo
from ..large_conversations import LargeConversations
from ..membership import Members
from ..outside import LocalRooms
from ..presence.transitions import announced
from ..read_state.read_events import announcement

PAGE = 200
"""Users or receipts in one read: each page is delivered before the next one is read."""
AT_ONCE = 1000
"""Rooms, or users, in one query."""


class NoticeCatchUp:
    """Delivers missed notices to the sockets of this node, each notice once.

    Notices are found by the time in their documents, which is that of the database's clock.
    """

    def __init__(
        self, mongo: Mongo, members: Members, large: LargeConversations, local_rooms: LocalRooms
    ) -> None:
        self._mongo = mongo
        self._members = members
        self._large = large
        self._local_rooms = local_rooms

    async def run(self, seconds: float, caught_up_at: float) -> bool:
        """Deliver the missed notices of the last `seconds`.

        `caught_up_at`: the time.monotonic() at which the rooms had caught up. Returns False if a notice must
        wait for a room that has not caught up. Raises DatabaseUnavailable.
        """
        async with self._mongo.deadline():
            now = await self._mongo.now()
        # Later notices wait for the next run: a user may have been removed before they were made.
        until = now - timedelta(seconds=time.monotonic() - caught_up_at)
        within = {"$gte": now - timedelta(seconds=seconds), "$lte": until}
        followed = set(self._local_rooms.followed())
        large = await self._large.among(followed)
        rooms = list(followed - large)
        complete = await self._presence(within, followed, large)
        for n in range(0, len(rooms), AT_ONCE):
            # One index range per room, so receipts in other rooms cost this node nothing.
            where = {"conversationId": {"$in": rooms[n : n + AT_ONCE]}, "place": {"$exists": True}}
            complete &= await self._reading(within, where)
        if large:
            user_ids = self._local_rooms.user_ids()
            for n in range(0, len(user_ids), AT_ONCE):
                own = {"userId": {"$in": user_ids[n : n + AT_ONCE]}, "own": True}
                complete &= await self._reading(within, own)
        return complete

    async def _presence(self, within: Document, followed: set[str], large: set[str]) -> bool:
        """Returns True if all missed notices were delivered."""
        complete = True
        cursor = self._mongo.users.find(
            {"presenceAt": within},
            {"presenceAt": 1, "presenceChanges": 1, "on": 1, "lastSeenAt": 1},
        ).sort("presenceAt")
        while page := await self._page(cursor):
            page = [
                doc
                for doc in page
                if not self._local_rooms.knows(doc["_id"], doc["presenceChanges"])
            ]
            async with self._mongo.deadline():
                where = await self._members.rooms_of_many([doc["_id"] for doc in page])
            for doc in page:
                user_id = doc["_id"]
                shared = followed.intersection(where.get(user_id, ()))
                if all(map(self._local_rooms.caught_up, shared)):
                    event, payload = announced(doc)
                    self._local_rooms.deliver_state(
                        shared - large,
                        event,
                        payload,
                        user_id=user_id,
                        number=doc["presenceChanges"],
                        trusted=shared,
                    )
                else:
                    complete = False
        return complete

    async def _reading(self, within: Document, where: Document) -> bool:
        complete = True
        order = [("userId" if "own" in where else "conversationId", 1), ("at", 1)]
        cursor = self._mongo.receipts.find({**where, "at": within}).sort(order)
        while page := await self._page(cursor):
            for doc in page:
                room, notice = doc["conversationId"], str(doc["_id"])
                if self._local_rooms.was_delivered(notice):
                    continue
                if not self._local_rooms.caught_up(room):
                    complete = False
                    continue
                event, payload = announcement(doc)
                if "own" in doc:
                    self._local_rooms.deliver_missed_own_notice(
                        doc["userId"], event, payload, notice=notice
                    )
                else:
                    self._local_rooms.deliver_missed_notice(room, event, payload, notice=notice)
        return complete

    async def _page(self, cursor: Any) -> list[Document]:
        async with self._mongo.deadline():
            page: list[Document] = await cursor.to_list(PAGE)
            return page
