"""Membership: the participants of a conversation and their roles.

Authorisation means loading the member. A non-member gets NotFound for the conversation and everything
in it. What a member may do beyond reading and writing is decided by `policy.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import NotFound
from ..mongo import Document, Mongo, Session
from ..observability.metrics import Families
from .outside import ConversationRooms
from .signals import Hidden

Role = Literal["owner", "admin", "member"]
ROLES: tuple[Role, ...] = get_args(Role)
"""The roles as they are stored and sent, the highest rank first. `policy.py` says what each may do."""


def member_id(conversation_id: str, user_id: str) -> str:
    return f"{conversation_id}:{user_id}"


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
        rooms: ConversationRooms,
        ended: Callable[[Iterable[str]], Awaitable[set[str]]],
    ) -> None:
        """`ended` returns those of the conversations whose participants no longer count (see deletion.py)."""
        self._mongo = mongo
        self._rooms = rooms
        self._ended = ended
        self._hiders: dict[str, set[str]] = {}
        """The conversations in which users who are connected here have hidden messages."""
        rooms.on(Hidden, self._has_hidden)
        rooms.on_departure(lambda user_id: self._hiders.pop(user_id, None))

    def watch(self, metrics: Families) -> None:
        metrics.memory("users who hide messages", lambda: len(self._hiders), None)

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
        noted = await self._mongo.participants.update_one(
            {"_id": member.doc["_id"]}, {"$set": {"hides": True}}
        )
        if not noted.matched_count:
            raise NotFound()

    async def arrive(self, user_id: str) -> list[str]:
        """Returns the conversations of a connecting user, and remembers in which ones the user hides
        messages."""
        cursor = self._mongo.participants.find(
            {"userId": user_id}, {"conversationId": 1, "hides": 1, "_id": 0}
        )
        docs = [doc async for doc in cursor]
        ended = await self._ended([doc["conversationId"] for doc in docs])
        hiding = {doc["conversationId"] for doc in docs if doc.get("hides")}
        # Keep what was signalled while this was read.
        if hiding := hiding | self._hiders.get(user_id, set()):
            self._hiders[user_id] = hiding
        return [doc["conversationId"] for doc in docs if doc["conversationId"] not in ended]

    async def conversations_of(self, user_id: str) -> list[str]:
        cursor = self._mongo.participants.find({"userId": user_id}, {"conversationId": 1, "_id": 0})
        ids = [doc["conversationId"] async for doc in cursor]
        ended = await self._ended(ids)
        return [conversation_id for conversation_id in ids if conversation_id not in ended]

    async def rooms_of_many(self, user_ids: list[str]) -> dict[str, list[str]]:
        """Returns the conversations of each of these users, with one query."""
        rooms: dict[str, list[str]] = {}
        if user_ids:
            async for doc in self._mongo.participants.find(
                {"userId": {"$in": user_ids}}, {"userId": 1, "conversationId": 1, "_id": 0}
            ):
                rooms.setdefault(doc["userId"], []).append(doc["conversationId"])
        return rooms

    async def acquainted(self, user_id: str, others: list[str]) -> dict[str, str]:
        """Returns the users in `others` who share a conversation with the user, each with one that they share."""
        mine = await self.conversations_of(user_id)
        found = await self._mongo.participants.aggregate(
            [
                {"$match": {"userId": {"$in": others}, "conversationId": {"$in": mine}}},
                {"$group": {"_id": "$userId", "shared": {"$first": "$conversationId"}}},
            ]
        )
        return {doc["_id"]: doc["shared"] async for doc in found}
