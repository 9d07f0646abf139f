"""Membership: who participates in a conversation, and as what.

Authorisation is the loading of the member: whoever is none gets NotFound, for the conversation and
all that is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import Forbidden, NotFound
from ..mongo import Document, Mongo
from .rooms import ConversationRooms

Role = Literal["owner", "admin", "member"]
RANK: dict[str, int] = {"member": 0, "admin": 1, "owner": 2}


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
        """Whether the user has hidden messages of the conversation from oneself."""
        return bool(self.doc.get("hides"))

    @property
    def moderates(self) -> bool:
        return self.role != "member"

    def need(self, role: Role) -> None:
        """Raises Forbidden when the member has a lower role; a direct conversation has no roles."""
        if self.direct:
            raise Forbidden("A direct conversation cannot be changed.")
        if RANK[self.role] < RANK[role]:
            raise Forbidden(f"This needs the role {role}.")


class Members:
    """Membership as the database has it.

    The rooms are asked first where only membership matters: a connected user's sockets are in the
    rooms of the user's conversations and leave when membership ends.
    """

    def __init__(self, mongo: Mongo, rooms: ConversationRooms) -> None:
        self._mongo = mongo
        self._rooms = rooms
        self._hiders: dict[str, set[str]] = {}
        rooms.on("hidden", self._has_hidden)

    def known(self, user_id: str, conversation_id: str) -> bool:
        """Whether the rooms vouch for the user."""
        return self._rooms.in_sync and self._rooms.hosts(user_id, conversation_id)

    async def require(self, user_id: str, conversation_id: str) -> Member:
        """The member. Raises NotFound."""
        doc = await self._mongo.participants.find_one({"_id": member_id(conversation_id, user_id)})
        # A caller who makes up "c:a" is not to be taken, as user "b", for user "a:b" in "c".
        if doc is None or doc["userId"] != user_id:
            raise NotFound()
        return Member(doc)

    async def present(self, user_id: str, conversation_id: str) -> None:
        """Raises NotFound unless the user participates."""
        if not self.known(user_id, conversation_id):
            await self.require(user_id, conversation_id)

    async def hiding(self, user_id: str, conversation_id: str) -> bool:
        """Whether the member has hidden something in the conversation. Raises NotFound."""
        if self.known(user_id, conversation_id):
            return conversation_id in self._hiders.get(user_id, ())
        return (await self.require(user_id, conversation_id)).hides

    def _has_hidden(self, signal: list[str]) -> None:
        user_id, conversation_id = signal
        if not self._rooms.sockets_of(user_id):
            return  # It is read when the user comes.
        self._hiders.setdefault(user_id, set()).add(conversation_id)

    async def note_hiding(self, member: Member) -> None:
        await self._mongo.participants.update_one(
            {"_id": member.doc["_id"]}, {"$set": {"hides": True}}
        )

    async def arrive(self, user_id: str) -> list[str]:
        """The conversations of a user who connects, for the rooms; by them the user is known."""
        cursor = self._mongo.participants.find(
            {"userId": user_id}, {"conversationId": 1, "hides": 1, "_id": 0}
        )
        docs = [doc async for doc in cursor]
        hiding = {doc["conversationId"] for doc in docs if doc.get("hides")}
        # Together with what was heard of while this was read.
        if hiding := hiding | self._hiders.get(user_id, set()):
            self._hiders[user_id] = hiding
        return [doc["conversationId"] for doc in docs]

    async def conversations_of(self, user_id: str) -> list[str]:
        cursor = self._mongo.participants.find({"userId": user_id}, {"conversationId": 1, "_id": 0})
        return [doc["conversationId"] async for doc in cursor]

    async def rooms_of_many(self, user_ids: list[str]) -> dict[str, list[str]]:
        """The conversations of each of these users, in one query."""
        rooms: dict[str, list[str]] = {}
        if user_ids:
            async for doc in self._mongo.participants.find(
                {"userId": {"$in": user_ids}}, {"userId": 1, "conversationId": 1, "_id": 0}
            ):
                rooms.setdefault(doc["userId"], []).append(doc["conversationId"])
        return rooms

    async def users_of(self, conversation_id: str) -> list[str]:
        """In the order in which they joined."""
        cursor = self._mongo.participants.find(
            {"conversationId": conversation_id}, {"userId": 1, "_id": 0}
        ).sort([("joinedAt", 1), ("userId", 1)])
        return [doc["userId"] async for doc in cursor]

    async def acquainted(self, user_id: str, others: list[str]) -> set[str]:
        """Those of `others` who share a conversation with the user."""
        mine = await self.conversations_of(user_id)
        cursor = self._mongo.participants.find(
            {"userId": {"$in": others}, "conversationId": {"$in": mine}}, {"userId": 1, "_id": 0}
        )
        return {doc["userId"] async for doc in cursor}
