"""The presence of the participants of a conversation of any size, in pages."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ... import tasks
from ...clock import unix_ms
from ...errors import ValidationFailed
from ...mongo import Document, Mongo, page_cursor
from ...observability.metrics import Families
from ..membership import Members
from ..memberships import member_id
from .presence import Presence, presence_view

MAX_AGE_S = 8.0
"""How long the online users of a large conversation are remembered, from the start of the read. The read may take as
long, whatever the time of the request that began it. With the time of the request an answer is at most 10 s old."""
BY_PARTICIPANT = 5000
"""Up to this many participants are looked up. Of more, only those are found who are among all users who are online."""
AT_ONCE = 1000
SCANNED = 5000
"""Participants that are read for one page: those who are online are skipped, because an earlier page had them."""
SKIPPED = 100
"""Participants who are read with those for the page, because some are skipped."""
REMEMBERED = 200_000
"""Users who are remembered as online in large conversations."""
READS = 2
"""Large conversations that are read at the same time."""

_Users = dict[str, tuple[int, datetime | None]]
"""Since when each user has been online (unix ms), and when the user was last active."""
_USER = {"on": 1, "lastSeenAt": 1, "presenceAt": 1}


@dataclass(frozen=True, slots=True)
class PageOfPresence:
    conversation_id: str
    limit: int = 50
    cursor: str | None = None


class Online:
    """The participants of a conversation who are online."""

    __slots__ = ("latest", "seen", "since", "user_ids")

    def __init__(self, users: _Users) -> None:
        self.user_ids = sorted(users)
        self.since = {user_id: since for user_id, (since, _) in users.items()}
        self.seen = {user_id: seen for user_id, (_, seen) in users.items()}
        self.latest = max(self.since.values(), default=0)


@dataclass(frozen=True, slots=True)
class _Position:
    """A place in the list: first all who were online when the first page was read, then the others."""

    latest: int
    """The latest time since which a user was online when the first page was read."""
    online: bool
    after: str = ""
    """The last user of the previous page, or the cursor of the last participant. Empty: at the beginning."""

    def encode(self) -> str:
        return f"{'online' if self.online else 'others'}.{self.latest}.{self.after}"

    @classmethod
    def decode(cls, cursor: str) -> _Position:
        part, _, rest = cursor.partition(".")
        latest, _, after = rest.partition(".")
        if part in ("online", "others") and latest.isdecimal() and latest.isascii():
            return cls(int(latest), part == "online", after)
        raise ValidationFailed.of("cursor", "Not a cursor of this list.")


class ConversationPresence:
    """Lists the presence of participants, and counts those who are online.

    In a large conversation, one read serves all who ask within MAX_AGE_S. A list shows every participant; one who comes
    or goes while its pages are read may appear twice.
    """

    def __init__(self, mongo: Mongo, members: Members, presence: Presence, *, large: int) -> None:
        """`large`: a conversation with more participants is large."""
        self._mongo = mongo
        self._members = members
        self._presence = presence
        self._large = large
        self._reads = asyncio.Semaphore(READS)
        self._known: dict[str, asyncio.Task[Online]] = {}

    def watch(self, metrics: Families) -> None:
        metrics.memory(
            "presence of large conversations", lambda: _users_in(self._known.values()), REMEMBERED
        )

    async def close(self) -> None:
        for task in list(self._known.values()):
            await tasks.end(task)

    async def page(
        self, asker_id: str, asked: PageOfPresence
    ) -> tuple[list[Mapping[str, Any]], str | None, int]:
        """Returns the presence of participants, the cursor of the next page, and how many are online."""
        position = _Position.decode(asked.cursor) if asked.cursor is not None else None
        await self._members.present(asker_id, asked.conversation_id)
        online = await self._online(asked.conversation_id)
        at = position or _Position(online.latest, True)
        items: list[Mapping[str, Any]] = []
        if at.online:
            n = bisect_right(online.user_ids, at.after)
            user_ids = online.user_ids[n : n + asked.limit]
            items = [presence_view(user_id, True, online.seen[user_id]) for user_id in user_ids]
            if n + asked.limit < len(online.user_ids):
                following = _Position(at.latest, True, user_ids[-1])
                return items, following.encode(), len(online.user_ids)
            at = _Position(at.latest, False)
        others, next_at = await self._others(asked, online, at, asked.limit - len(items))
        # Some may have come online since the participants were read.
        items += sorted(
            await self._presence.look_up(others, others),
            key=lambda item: item["status"],
            reverse=True,
        )
        return items, next_at.encode() if next_at else None, len(online.user_ids)

    async def _others(
        self, asked: PageOfPresence, online: Online, at: _Position, limit: int
    ) -> tuple[list[str], _Position | None]:
        """Returns participants in the order of joining, without those whom the first part of the list had."""
        where: Document = {"conversationId": asked.conversation_id}
        if at.after:
            joined_at, user_id = page_cursor.decode(at.after)
            where["joinedAt"] = {"$gte": joined_at}
            where["$or"] = [
                {"joinedAt": {"$gt": joined_at}},
                {"joinedAt": joined_at, "userId": {"$gt": user_id}},
            ]
        fields = {"_id": 0, "userId": 1, "joinedAt": 1}
        found = self._mongo.participants.find(where, fields).sort([("joinedAt", 1), ("userId", 1)])
        others: list[str] = []
        after = at.after
        scanned = 0
        async for doc in found.limit(SCANNED + 1).batch_size(limit + SKIPPED):
            user_id = doc["userId"]
            is_new = online.since.get(user_id, at.latest + 1) > at.latest
            if scanned == SCANNED or (is_new and len(others) == limit):
                return others, _Position(at.latest, False, after)
            if is_new:
                others.append(user_id)
            after = page_cursor.encode(doc["joinedAt"], user_id)
            scanned += 1
        return others, None

    # --- who is online --------------------------------------------------------------------------

    async def _online(self, conversation_id: str) -> Online:
        if conversation_id not in self._known:
            user_ids = await self._first(conversation_id, self._large + 1)
            if len(user_ids) <= self._large:
                return Online(await self._among(user_ids))
        if (reading := self._known.get(conversation_id)) is None:
            loop = asyncio.get_running_loop()
            reading = self._known[conversation_id] = loop.create_task(self._read(conversation_id))
            loop.call_later(MAX_AGE_S, self._forget, conversation_id, reading)
            # The error is raised where the result is awaited; perhaps nobody awaits it any more.
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        # It goes on when this request ends: others wait for it, too.
        return await asyncio.shield(reading)

    async def _read(self, conversation_id: str) -> Online:
        try:
            async with self._reads, self._mongo.deadline(MAX_AGE_S):
                user_ids = await self._first(conversation_id, BY_PARTICIPANT + 1)
                if len(user_ids) <= BY_PARTICIPANT:
                    online = Online(await self._among(user_ids))
                else:
                    online = Online(await self._among_all(conversation_id))
        except BaseException:  # failed or cancelled: the next request reads again
            self._forget(conversation_id, asyncio.current_task())
            raise
        for oldest in [known for known in self._known if known != conversation_id]:
            if _users_in(self._known.values()) + len(online.user_ids) > REMEMBERED:
                del self._known[oldest]
        return online

    def _forget(self, conversation_id: str, reading: asyncio.Task[Any] | None) -> None:
        if self._known.get(conversation_id) is reading:
            del self._known[conversation_id]

    async def _first(self, conversation_id: str, limit: int) -> list[str]:
        found = self._mongo.participants.find(
            {"conversationId": conversation_id}, {"_id": 0, "userId": 1}
        ).sort([("joinedAt", 1), ("userId", 1)])
        return [doc["userId"] async for doc in found.limit(limit)]

    async def _among(self, user_ids: list[str]) -> _Users:
        """Returns those of the users who are online."""
        online: _Users = {}
        for n in range(0, len(user_ids), AT_ONCE):
            where = {"_id": {"$in": user_ids[n : n + AT_ONCE]}}
            self._note(online, [doc async for doc in self._mongo.users.find(where, _USER)])
        return online

    async def _among_all(self, conversation_id: str) -> _Users:
        """Returns the participants among all users who are online."""
        online: _Users = {}
        cursor = self._mongo.users.find({"on": {"$exists": True}}, _USER).batch_size(AT_ONCE)
        while docs := await cursor.to_list(AT_ONCE):
            members = self._mongo.participants.find(
                {"_id": {"$in": [member_id(conversation_id, doc["_id"]) for doc in docs]}},
                {"userId": 1},
            )
            found = {doc["userId"] async for doc in members}
            self._note(online, [doc for doc in docs if doc["_id"] in found])
        return online

    def _note(self, online: _Users, docs: Iterable[Document]) -> None:
        for doc in docs:
            here, seen = self._presence.state(doc["_id"], doc)
            if here:
                # A user who has just connected may not be recorded yet.
                since = doc.get("presenceAt")
                online[doc["_id"]] = unix_ms(since) if since else 0, seen


def _users_in(readings: Iterable[asyncio.Task[Online]]) -> int:
    return sum(len(reading.result().user_ids) for reading in readings if reading.done())
