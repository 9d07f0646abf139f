"""Finds the notices that have no offset (presence and read marks) and that this node missed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from ...mongo import Document, Mongo
from ..membership import Members
from ..outside import LocalRooms
from ..presence.transitions import announced
from ..read_state.marks import announcement

PAGE = 200
"""Users or receipts in one read: each page is delivered before the next one is read."""
ROOMS = 1000


class NoticeCatchUp:
    """Delivers missed notices to the sockets of this node, each notice once.

    Notices are found by the time in their documents, which is that of the database's clock.
    """

    def __init__(self, mongo: Mongo, members: Members, local_rooms: LocalRooms) -> None:
        self._mongo = mongo
        self._members = members
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
        rooms = self._local_rooms.followed()
        complete = await self._presence(within, set(rooms))
        for n in range(0, len(rooms), ROOMS):
            complete &= await self._reading(within, rooms[n : n + ROOMS])
        return complete

    async def _presence(self, within: Document, followed: set[str]) -> bool:
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
                        shared, event, payload, user_id=user_id, number=doc["presenceChanges"]
                    )
                else:
                    complete = False
        return complete

    async def _reading(self, within: Document, rooms: list[str]) -> bool:
        complete = True
        cursor = self._mongo.receipts.find(
            # One index range per room, so receipts in other rooms cost this node nothing.
            {"conversationId": {"$in": rooms}, "at": within, "place": {"$exists": True}},
        ).sort([("conversationId", 1), ("at", 1)])
        while page := await self._page(cursor):
            for doc in page:
                room, notice = doc["conversationId"], str(doc["_id"])
                if self._local_rooms.was_delivered(notice):
                    continue
                if self._local_rooms.caught_up(room):
                    event, payload = announcement(doc)
                    self._local_rooms.deliver_missed_notice(room, event, payload, notice=notice)
                else:
                    complete = False
        return complete

    async def _page(self, cursor: Any) -> list[Document]:
        async with self._mongo.deadline():
            page: list[Document] = await cursor.to_list(PAGE)
            return page
