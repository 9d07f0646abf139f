"""Presence: a user is online while any of the user's sockets is.

Going offline is announced after a grace, so that a reload is silent. Transitions are gathered for a
moment: recorded together, then announced, to each socket once however many conversations are shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import structlog

from .. import tasks
from ..clock import iso, now
from ..mongo import Mongo, PyMongoError, Session, deadline, is_down
from ..outbox.outbox import Outbox, Record
from .members import Members
from .rooms import Rooms

log = structlog.get_logger(__name__)

GATHER_S = 0.2
RESTART_GRACE_S = 15.0
"""How long those who were online when the server ended have to come back before they are offline."""


class Presence:
    def __init__(
        self, mongo: Mongo, outbox: Outbox, members: Members, rooms: Rooms, *, grace_s: float
    ) -> None:
        self._mongo = mongo
        self._outbox = outbox
        self._members = members
        self._rooms = rooms
        self._grace_s = grace_s
        self._sockets: dict[str, int] = {}
        self._seen: dict[str, datetime] = {}
        """When those who are online were last active."""
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._online: set[str] = set()
        """As announced."""
        self._changed: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Take over from a server that ended without saying good-bye for its users."""
        async for doc in self._mongo.users.find({"online": True}, {"lastSeenAt": 1}):
            user_id = doc["_id"]
            self._online.add(user_id)
            self._seen[user_id] = doc.get("lastSeenAt") or now()
            if user_id not in self._sockets:
                self._leave_after(user_id, max(self._grace_s, RESTART_GRACE_S))

    # --- what happens ---------------------------------------------------------------------------

    def connected(self, user_id: str) -> None:
        self._sockets[user_id] = self._sockets.get(user_id, 0) + 1
        self._seen[user_id] = now()
        if timer := self._leaving.pop(user_id, None):
            timer.cancel()
        self._note(user_id)

    def active(self, user_id: str) -> None:
        self._seen[user_id] = now()

    def disconnected(self, user_id: str) -> None:
        left = self._sockets[user_id] - 1
        if left:
            self._sockets[user_id] = left
            return
        del self._sockets[user_id]
        self._seen[user_id] = now()
        self._leave_after(user_id, self._grace_s)

    def _leave_after(self, user_id: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._leaving[user_id] = loop.call_later(seconds, self._left, user_id)

    def _left(self, user_id: str) -> None:
        del self._leaving[user_id]
        self._note(user_id)

    def _is_here(self, user_id: str) -> bool:
        return user_id in self._sockets or user_id in self._leaving

    # --- what is announced ----------------------------------------------------------------------

    def _note(self, user_id: str) -> None:
        if self._is_here(user_id) == (user_id in self._online):
            self._changed.pop(user_id, None)
            return
        self._changed[user_id] = None
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._keep_announcing())

    async def _keep_announcing(self) -> None:
        while self._changed and not self._closed:
            await asyncio.sleep(GATHER_S)
            try:
                async with deadline():
                    await self._flush()
            except (PyMongoError, TimeoutError) as error:
                if not is_down(error):
                    raise
                log.warning("presence waits for the database", users=len(self._changed))
                await asyncio.sleep(1.0)

    async def _flush(self) -> None:
        at = now()
        batch = list(self._changed)
        online = [one for one in batch if self._is_here(one)]
        offline = [one for one in batch if not self._is_here(one)]
        gone = {
            one: {"userId": one, "lastSeen": iso(self._seen[one]), "timestamp": iso(at)}
            for one in offline
        }
        here = {one: {"userId": one, "timestamp": iso(at)} for one in online}

        async def store(session: Session) -> None:
            states = dict.fromkeys(online, True) | dict.fromkeys(offline, False)
            seen = {one: self._seen[one] for one in batch}
            numbers = await self._mongo.set_presence(states, seen, session)
            records = [
                Record.of_user(kind, user_id, numbers[user_id], at, payload)
                for kind, payloads in (("user.online", here), ("user.offline", gone))
                for user_id, payload in payloads.items()
                # Else nobody knows this user: the document was taken away from outside.
                if user_id in numbers
            ]
            await self._outbox.append(session, records)

        rooms = {one: list(self._rooms.rooms_of(one)) for one in batch if one in self._sockets}
        rooms |= await self._members.rooms_of_many([one for one in batch if one not in rooms])
        await self._mongo.transaction(store)
        self._online.update(online)
        self._online.difference_update(offline)
        for user_id in batch:
            self._changed.pop(user_id, None)
        for user_id, payload in here.items():
            # Who is on the way out again was here all the same: else only the going would be told.
            where = self._rooms.rooms_of(user_id) or rooms.get(user_id, ())
            self._rooms.neighbours(where, "user:online", payload, but=user_id)
        for user_id, payload in gone.items():
            if not self._is_here(user_id):
                del self._seen[user_id]
            self._rooms.neighbours(rooms.get(user_id, ()), "user:offline", payload, but=user_id)
        for user_id in batch:
            # It may have changed again while this was being recorded.
            self._note(user_id)

    async def close(self) -> None:
        """Announce nothing more; who is online on record then has a while to come back."""
        self._closed = True
        for timer in self._leaving.values():
            timer.cancel()
        await tasks.end(self._task)

    # --- what is asked --------------------------------------------------------------------------

    async def of(self, asker_id: str, user_ids: Iterable[str]) -> list[Mapping[str, Any]]:
        """The presence of each. A stranger, who shares no conversation with the asker, looks like
        someone who was never here."""
        wanted = list(dict.fromkeys(user_ids))
        visible = await self._members.acquainted(
            asker_id, [one for one in wanted if one != asker_id]
        )
        visible.add(asker_id)
        return await self._look_up(wanted, visible)

    async def of_one(self, asker_id: str, user_id: str) -> Mapping[str, Any]:
        (item,) = await self.of(asker_id, [user_id])
        return item

    async def of_conversation(self, asker_id: str, conversation_id: str) -> list[Mapping[str, Any]]:
        await self._members.present(asker_id, conversation_id)
        user_ids = await self._members.users_of(conversation_id)
        return await self._look_up(user_ids, set(user_ids))

    async def _look_up(self, user_ids: list[str], visible: set[str]) -> list[Mapping[str, Any]]:
        away = [one for one in user_ids if one in visible and one not in self._seen]
        last = {
            doc["_id"]: doc.get("lastSeenAt")
            async for doc in self._mongo.users.find({"_id": {"$in": away}}, {"lastSeenAt": 1})
        }
        items: list[Mapping[str, Any]] = []
        for user_id in user_ids:
            here = user_id in visible and self._is_here(user_id)
            seen = self._seen.get(user_id) or last.get(user_id) if user_id in visible else None
            items.append(
                {
                    "userId": user_id,
                    "status": "online" if here else "offline",
                    "lastSeen": iso(seen) if seen else None,
                }
            )
        return items
