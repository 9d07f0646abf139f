"""The register of personal data: for every collection, what the deletion of a user removes from it, and the user's lines
of an export.

A new collection, or another place that keeps data about users, gets a row in `PersonalData.stores`. A test compares the
rows with the collections of the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..mongo import Mongo
from .message import Message
from .participants import Participants
from .read_state.receipts import read_at
from .users import Users, user_view
from .views import participant_view

CONVERSATIONS = 1000
"""Conversations per query for the messages or reads of a user. The log has no index by user alone."""

Line = Mapping[str, Any]
"""A line of an export: JSON with a `type`."""


class Kept(str):
    """The reason why data outlasts the deletion of its user."""


class NotExported(str):
    """The reason why a collection has no lines of an export."""


@dataclass(frozen=True, slots=True)
class Store:
    collection: str
    erase: Callable[[str], Awaitable[None]] | Kept
    """Removes what a deleted user must not leave behind. It may run again, and then finishes what was interrupted."""
    export: Callable[[str], AsyncIterator[Line]] | NotExported
    """Yields what the collection has of a user."""


IMPERSONAL = frozenset({"ended", "nodes", "relays", "schema"})
"""The collections without personal data."""


class PersonalData:
    def __init__(self, mongo: Mongo, users: Users, participants: Participants) -> None:
        self._mongo = mongo
        self.stores = (
            # The profile and the presence. First: from then on the user is refused, and can join nothing more.
            Store("users", users.mark_deleted, self._profile),
            # Roles. Read marks, and where the user has hidden messages, become absences.
            Store("participants", participants.leave_all, self._memberships),
            Store(
                "log", Kept("messages and reactions are part of their conversation"), self._messages
            ),
            Store(
                "reactions",
                Kept("reactions are part of their conversation"),
                NotExported("reactions have no index by user"),
            ),
            Store("receipts", Kept("the numbers of messages that were read"), self._reads),
            Store(
                "absences",
                Kept("the numbers of messages that were read, for a user who is restored"),
                NotExported("no membership; the receipts say what was read"),
            ),
            Store(
                "conversations",
                Kept("the id of the user who created it"),
                NotExported("a conversation belongs to all of its participants"),
            ),
            Store(
                "outbox",
                Kept("events must reach their receivers; they expire after 7 days"),
                NotExported("copies of what the other collections have"),
            ),
            Store(
                "deadletters",
                Kept("ids of users and conversations; they expire after 30 days"),
                NotExported("only ids"),
            ),
            Store(
                "holds",
                Kept("ids of users and conversations, until the next delivery succeeds"),
                NotExported("only ids"),
            ),
        )

    async def delete_user(self, user_id: str) -> None:
        """Delete a user: refuse the user's tokens, close the user's sockets, leave all conversations.

        May be repeated: a repeat finishes a deletion that was interrupted. Raises NotFound.
        """
        for store in self.stores:
            if not isinstance(store.erase, Kept):
                await store.erase(user_id)

    async def export(self, user_id: str) -> AsyncIterator[Line]:
        """Yields everything that is stored of a user, except reactions: they have no index by user."""
        for store in self.stores:
            if not isinstance(store.export, NotExported):
                async for line in store.export(user_id):
                    yield line

    async def _profile(self, user_id: str) -> AsyncIterator[Line]:
        if (doc := await self._mongo.users.find_one({"_id": user_id})) is not None:
            yield {"type": "profile", **user_view(doc)}

    async def _memberships(self, user_id: str) -> AsyncIterator[Line]:
        async for doc in self._mongo.participants.find({"userId": user_id}).sort("conversationId"):
            yield {
                "type": "conversation",
                "conversationId": doc["conversationId"],
                **participant_view(doc),
            }

    async def _messages(self, user_id: str) -> AsyncIterator[Line]:
        async for ids in self._conversations():
            own = {"conversationId": {"$in": ids}, "senderId": user_id, "seq": {"$gte": 1}}
            async for doc in self._mongo.log.find(own, hint="own"):
                yield {"type": "message", **Message(doc).wire()}

    async def _reads(self, user_id: str) -> AsyncIterator[Line]:
        async for ids in self._conversations():
            own = {"conversationId": {"$in": ids}, "userId": user_id}
            async for doc in self._mongo.receipts.find(own, hint="range"):
                yield {
                    "type": "read",
                    "conversationId": doc["conversationId"],
                    "fromSeq": doc["from"],
                    "toSeq": doc["to"],
                    "readAt": read_at(doc),
                }

    async def _conversations(self) -> AsyncIterator[list[str]]:
        """Yields the ids of all conversations: a user may have left those with the user's messages."""
        last = ""
        while True:
            found = self._mongo.conversations.find({"_id": {"$gt": last}}, {"_id": 1}).sort("_id")
            if not (ids := [doc["_id"] async for doc in found.limit(CONVERSATIONS)]):
                return
            yield ids
            last = ids[-1]
