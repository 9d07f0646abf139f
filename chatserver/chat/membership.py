"""Membership: the participants of a conversation and their roles.

Authorisation means loading the member. A non-member gets NotFound for the conversation and everything
in it. What a member may do beyond reading and writing is decided by `policy.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Literal, get_args

from ..clock import EPOCH
from ..errors import NotFound
from ..mongo import Document, Mongo, Session
from ..mongo.gathered import GatheredReads
from ..observability.metrics import Families
from .memberships import Memberships, member_id
from .outside import ConversationRooms
from .recency import Recency
from .signals import Hidden

Role = Literal["owner", "admin", "member"]
ROLES: tuple[Role, ...] = get_args(Role)
"""The roles as they are stored and sent, the highest rank first. `policy.py` says what each may do."""


MAX_ROOMS = 5_000
"""The most rooms that a socket enters when it connects."""
MAX_ROWS = 20_000
"""The most rows of connecting users in one read."""
FEW = 500
"""A user's conversations that are read to find those that others share."""
FIRST = 20
"""The first of them to look for."""
AT_ONCE = 250
"""Memberships of others in the first read. Each further read takes twice as many, up to MAX_AT_ONCE."""
MAX_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class RoomsOf:
    """The rooms that a connecting socket enters."""

    ids: list[str]
    truncated: bool
    """True if the user has more. These are the ones that were active last."""


_OF_A_LIST = {"_id": 0, "userId": 1, "conversationId": 1, "activityAt": 1, "hides": 1}
_LIST_ORDER = [("userId", 1), ("activityAt", -1), ("conversationId", -1)]


@dataclass(frozen=True, slots=True)
class Member:
    doc: Document

    @property
    def conversation_id(self) -> str:
        return self.doc["conversationId"]

    @property
    def user_id(self) -> str:
        return self.doc["userId"]

    @property
    def role(self) -> Role:
        return self.doc["role"]

    @property
    def direct(self) -> bool:
        return bool(self.doc.get("direct"))

    @property
    def hides(self) -> bool:
        """True if the user has hidden messages of the conversation for themselves."""
        return bool(self.doc.get("hides"))


class Roster(dict[str, Member]):
    """Participants of a conversation, by user id. Every other user is NotFound."""

    def __missing__(self, user_id: str) -> Member:
        raise NotFound()


class Members:
    """Checks membership, in the rooms of this node or in the database.

    The sockets of a connected user are in the rooms of the user's conversations, and leave a room when
    the membership ends. So where only membership matters, the rooms are checked first.
    """

    def __init__(
        self,
        mongo: Mongo,
        memberships: Memberships,
        rooms: ConversationRooms,
        recency: Recency,
        ended: Callable[[Iterable[str]], Awaitable[set[str]]],
    ) -> None:
        """`ended` returns those of the conversations whose participants no longer count (see deletion.py)."""
        self._mongo = mongo
        self._memberships = memberships
        self._rooms = rooms
        self._recency = recency
        self._ended = ended
        self._arrivals = GatheredReads(self._read_rooms)
        self._hiders: dict[str, set[str]] = {}
        """The conversations in which users who are connected here have hidden messages."""
        rooms.on(Hidden, self._has_hidden)
        rooms.on_departure(lambda user_id: self._hiders.pop(user_id, None))

    def watch(self, metrics: Families) -> None:
        metrics.memory("users who hide messages", lambda: len(self._hiders), None)
        metrics.memory("rooms to read", lambda: len(self._arrivals), None)

    def known(self, user_id: str, conversation_id: str) -> bool:
        """True if the user has a socket in the room, so that membership need not be read."""
        return self._rooms.in_sync and self._rooms.hosts(user_id, conversation_id)

    async def require(
        self, user_id: str, conversation_id: str, *, session: Session | None = None
    ) -> Member:
        """Returns the member, as seen by the session's transaction. Raises NotFound."""
        doc = await self._mongo.participants.find_one(
            {"_id": member_id(conversation_id, user_id)}, session=session
        )
        # Attack: user "b" names the conversation "c:a" in order to pass for user "a:b" of "c".
        if doc is None or doc["userId"] != user_id:
            raise NotFound()
        # A change that a transaction makes takes an offset, and there is none after the end.
        if session is None and await self._ended([conversation_id]):
            raise NotFound()
        return Member(doc)

    async def roster(
        self, conversation_id: str, session: Session, user_ids: Sequence[str]
    ) -> Roster:
        """Returns those of the users who participate."""
        ids = [member_id(conversation_id, user_id) for user_id in user_ids]
        found = self._mongo.participants.find({"_id": {"$in": ids}}, session=session)
        return Roster({doc["userId"]: Member(doc) async for doc in found})

    async def heir(self, leaving: Member, session: Session) -> Member | None:
        """Returns the other participant with the highest rank who joined first, or None if there is no other."""
        for role in ROLES:
            doc = await self._mongo.participants.find_one(
                {
                    "conversationId": leaving.conversation_id,
                    "role": role,
                    "userId": {"$ne": leaving.user_id},
                },
                sort=[("joinedAt", 1), ("userId", 1)],
                session=session,
            )
            if doc is not None:
                return Member(doc)
        return None

    async def present(self, user_id: str, conversation_id: str) -> None:
        """Raises NotFound unless the user participates."""
        if not self.known(user_id, conversation_id):
            await self.require(user_id, conversation_id)

    async def hiding(self, user_id: str, conversation_id: str) -> bool:
        """True if the member has hidden messages of the conversation. Raises NotFound."""
        if self.known(user_id, conversation_id):
            return conversation_id in self._hiders.get(user_id, ())
        return (await self.require(user_id, conversation_id)).hides

    def _has_hidden(self, hidden: Hidden) -> None:
        if not self._rooms.sockets_of(hidden.user_id):
            return  # `arrive` reads it when the user connects.
        self._hiders.setdefault(hidden.user_id, set()).add(hidden.conversation_id)

    async def note_hiding(self, member: Member) -> None:
        async def note(session: Session | None = None) -> None:
            noted = await self._mongo.participants.update_one(
                {"_id": member.doc["_id"]}, {"$set": {"hides": True}}, session=session
            )
            if not noted.matched_count:
                raise NotFound()
            if not member.hides:
                await self._memberships.note_hiding(member.doc, session)

        await (note() if member.hides else self._mongo.transaction(note))

    async def arrive(self, user_id: str) -> RoomsOf:
        """Returns the rooms of a connecting user, and remembers in which ones the user hides messages."""
        rows = await self._arrivals.get(user_id) or []
        if truncated := len(rows) > MAX_ROOMS:
            rows = await self._most_recent(user_id)
        return RoomsOf(await self._note_arrival(user_id, rows), truncated)

    async def _note_arrival(self, user_id: str, rows: Iterable[Document]) -> list[str]:
        """Remembers in which conversations the user hides messages. Returns those that are not deleted."""
        self._note_hiding(user_id, rows)
        conversation_ids = [row["conversationId"] for row in rows]
        ended = await self._ended(conversation_ids)
        return [each for each in conversation_ids if each not in ended]

    def _note_hiding(self, user_id: str, rows: Iterable[Document]) -> None:
        hiding = {row["conversationId"] for row in rows if row.get("hides")}
        # Keep what was signalled while this was read.
        if hiding := hiding | self._hiders.get(user_id, set()):
            self._hiders[user_id] = hiding

    async def _read_rooms(self, user_ids: list[str]) -> dict[str, list[Document]]:
        """Returns the rows of each user, but no more than MAX_ROOMS + 1."""
        limit = MAX_ROOMS + 1 if len(user_ids) == 1 else MAX_ROWS
        rows: dict[str, list[Document]] = {user_id: [] for user_id in user_ids}
        found = await self._rows({"userId": {"$in": user_ids}}, limit)
        if len(found) == MAX_ROWS:
            for user_id in user_ids:
                rows |= await self._read_rooms([user_id])
            return rows
        for row in found:
            rows[row["userId"]].append(row)
        return rows

    async def _rows(self, which: Document, limit: int) -> list[Document]:
        """Returns rows of users, those of each in the order of the list, from its index alone."""
        by_user = self._memberships.by_user
        hint = "recent" if by_user is self._mongo.memberships else None
        found = by_user.find(which, _OF_A_LIST, hint=hint, batch_size=limit)
        return [row async for row in found.sort(_LIST_ORDER).limit(limit)]

    async def _most_recent(self, user_id: str) -> list[Document]:
        """Returns the rows of the user's MAX_ROOMS conversations that were active last."""
        await self._recency.flush()
        rows = await self._rows({"userId": user_id, "activityAt": {"$gte": EPOCH}}, MAX_ROOMS)
        unplaced = await self._rows({"userId": user_id, "activityAt": None}, MAX_ROWS)
        large = {row["conversationId"]: row for row in unplaced}
        found = self._mongo.conversations.find({"_id": {"$in": list(large)}}, {"activityAt": 1})
        rows += [{**large[doc["_id"]], "activityAt": doc["activityAt"]} async for doc in found]
        return sorted(rows, key=itemgetter("activityAt"), reverse=True)[:MAX_ROOMS]

    async def remaining(self, user_id: str, rooms: RoomsOf) -> RoomsOf:
        """Returns those of the rooms in which the user still participates, and remembers as `arrive` does."""
        which = {"_id": {"$in": [member_id(room, user_id) for room in rooms.ids]}}
        found = self._mongo.participants.find(which, _OF_A_LIST, batch_size=MAX_ROOMS + 1)
        rows = [row async for row in found]
        return replace(rooms, ids=await self._note_arrival(user_id, rows))

    async def arrive_in(self, user_id: str, conversation_id: str) -> None:
        """A connected user enters a room that `arrive` left out. Raises NotFound."""
        member = await self.require(user_id, conversation_id)
        self._note_hiding(user_id, [member.doc])

    async def rooms_of_many(self, user_ids: list[str]) -> dict[str, list[str]]:
        """Returns the conversations of each of these users, with one query."""
        rooms: dict[str, list[str]] = {}
        if user_ids:
            async for doc in self._memberships.by_user.find(
                {"userId": {"$in": user_ids}}, {"userId": 1, "conversationId": 1, "_id": 0}
            ):
                rooms.setdefault(doc["userId"], []).append(doc["conversationId"])
        return rooms

    async def acquainted(self, user_id: str, others: Collection[str]) -> dict[str, str]:
        """Returns the users in `others` who share a conversation with the user, each with one that they share.

        It looks for the user's conversations among those of the others, and if the user has many, for the conversations
        of the rest among the user's.
        """
        rows = await self._pairs({"userId": user_id}, FEW)
        ids = [row["conversationId"] for row in rows]
        ended = await self._ended(ids)
        mine = [each for each in ids if each not in ended]
        shared: dict[str, str] = {}
        # Most of those who share one share one of the first.
        for some in (mine[:FIRST], mine[FIRST:]):
            left = [other for other in others if other not in shared]
            if some and left:
                shared |= await self._among(some, left)
        left = sorted(other for other in others if other not in shared)
        if left and len(rows) == FEW:
            shared |= await self._found_among_theirs(user_id, left)
        return shared

    async def _among(self, conversation_ids: list[str], user_ids: list[str]) -> dict[str, str]:
        """Returns those of the users who participate in one of the conversations, each with one of them."""
        found = await self._memberships.by_user.aggregate(
            [
                {
                    "$match": {
                        "userId": {"$in": user_ids},
                        "conversationId": {"$in": conversation_ids},
                    }
                },
                {"$group": {"_id": "$userId", "shared": {"$first": "$conversationId"}}},
            ],
            hint="user",
        )
        return {doc["_id"]: doc["shared"] async for doc in found}

    async def _found_among_theirs(self, user_id: str, others: list[str]) -> dict[str, str]:
        """Like `acquainted`. Reads the conversations of the others in pages, those of each until one is shared."""
        shared: dict[str, str] = {}
        where: Document = {"userId": {"$in": others}}
        size = AT_ONCE
        while True:
            rows = await self._pairs(where, size)
            theirs = list({row["conversationId"] for row in rows})
            both = {"userId": user_id, "conversationId": {"$in": theirs}}
            in_both = {row["conversationId"] for row in await self._pairs(both, size)}
            in_both -= await self._ended(in_both)
            for row in rows:
                if row["conversationId"] in in_both:
                    shared[row["userId"]] = row["conversationId"]
            if len(rows) < size:
                return shared
            size = min(2 * size, MAX_AT_ONCE)
            last = rows[-1]
            others = others[bisect_right(others, last["userId"]) :]
            where = {"userId": {"$in": others}}
            if last["userId"] not in shared:
                rest = {**last, "conversationId": {"$gt": last["conversationId"]}}
                where = {"$or": [rest, where]}

    async def _pairs(self, which: Document, limit: int) -> list[Document]:
        """Returns the ids of users and of their conversations, in the order of both, from the index alone."""
        fields = {"_id": 0, "userId": 1, "conversationId": 1}
        found = self._memberships.by_user.find(which, fields, hint="user", batch_size=limit)
        return [
            row async for row in found.sort([("userId", 1), ("conversationId", 1)]).limit(limit)
        ]
