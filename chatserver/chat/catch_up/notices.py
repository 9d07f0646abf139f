"""What is told outside the order of the log and was not told here: who came and went, and what was read."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Protocol

from ...mongo import Document, Mongo, PyMongoError, deadline, is_down
from ...realtime.rooms.sequencer import Unreadable
from ..membership import Members
from ..presence.transitions import announced
from ..read_state.receipts import announcement

PAGE = 200
"""Users or acts of reading at once: each page is told before the next one is read."""
ROOMS = 1000


class Here(Protocol):
    """Who hears what on this node (see Cluster)."""

    def followed(self) -> list[str]: ...
    def level(self, room: str) -> bool: ...
    def was_told(self, notice: str) -> bool: ...
    def knows(self, user_id: str, number: int) -> bool: ...
    def found_notice(self, room: str, event: str, payload: Any, *, notice: str) -> None: ...
    def found_state(
        self, rooms: Iterable[str], event: str, payload: Any, *, but: str, number: int
    ) -> None: ...


class Untold:
    """Tells it to the sockets of this node, each thing once. It is found by the time that it has on
    record, which is the database's."""

    def __init__(self, mongo: Mongo, members: Members, here: Here) -> None:
        self._mongo = mongo
        self._members = members
        self._here = here

    async def look(self, seconds: float, level_at: float) -> None:
        """Tell what is on record since so long. Raises Unreadable, also when something waits for a room
        that has not caught up."""
        try:
            async with deadline():
                now = await self._mongo.now()
            # What is later waits for the next look: somebody may have been removed before it.
            until = now - timedelta(seconds=time.monotonic() - level_at)
            within = {"$gte": now - timedelta(seconds=seconds), "$lte": until}
            rooms = self._here.followed()
            all_told = await self._presence(within, set(rooms))
            for n in range(0, len(rooms), ROOMS):
                all_told &= await self._reading(within, rooms[n : n + ROOMS])
        except (PyMongoError, TimeoutError) as error:
            if not is_down(error):
                raise
            raise Unreadable from error
        if not all_told:
            raise Unreadable

    async def _presence(self, within: Document, followed: set[str]) -> bool:
        """Whether all could be told."""
        all_told = True
        cursor = self._mongo.users.find(
            {"presenceAt": within},
            {"presenceAt": 1, "presenceChanges": 1, "on": 1, "lastSeenAt": 1},
        ).sort("presenceAt")
        while page := await self._page(cursor):
            page = [doc for doc in page if not self._here.knows(doc["_id"], doc["presenceChanges"])]
            async with deadline():
                where = await self._members.rooms_of_many([doc["_id"] for doc in page])
            for doc in page:
                user_id = doc["_id"]
                shared = followed.intersection(where.get(user_id, ()))
                if all(map(self._here.level, shared)):
                    event, payload = announced(doc)
                    self._here.found_state(
                        shared, event, payload, but=user_id, number=doc["presenceChanges"]
                    )
                else:
                    all_told = False
        return all_told

    async def _reading(self, within: Document, rooms: list[str]) -> bool:
        all_told = True
        cursor = self._mongo.receipts.find(
            # In each room by itself: what is read elsewhere costs this node nothing.
            {"conversationId": {"$in": rooms}, "at": within, "place": {"$exists": True}},
        ).sort([("conversationId", 1), ("at", 1)])
        while page := await self._page(cursor):
            for doc in page:
                room, notice = doc["conversationId"], str(doc["_id"])
                if self._here.was_told(notice):
                    continue
                if self._here.level(room):
                    event, payload = announcement(doc)
                    self._here.found_notice(room, event, payload, notice=notice)
                else:
                    all_told = False
        return all_told

    async def _page(self, cursor: Any) -> list[Document]:
        async with deadline():
            page: list[Document] = await cursor.to_list(PAGE)
            return page
