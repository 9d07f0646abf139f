"""The register of personal data: for every collection, what the deletion of a user removes from it, and the user's lines
of an export.

A new collection, or another place that keeps data about users, gets a row in `PersonalData.stores`. A test compares the
rows with the collections of the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..mongo import Document, Mongo, Session
from .job import Job, Progress
from .jobs import Jobs
from .memberships import Memberships, member_id
from .message import Message
from .participants import Participants
from .read_state.receipts import read_at
from .users import Users, user_view
from .views import participant_view

CONVERSATIONS = 1000
"""Conversations per query for the messages or reads of a user. The log has no index by user alone."""

USER_DELETION = "user.deletion"
ERASED = 32
"""Items that a step erases from a store at most. Fewer mean that none is left."""
LEAVES_AT_ONCE = 2
"""Concurrent transactions of a step. With four, the slowest sends of others took twice as long, and a deletion a
quarter less."""

_SHUT_OUT = {"isShutOut": True}

Line = Mapping[str, Any]
"""A line of an export: JSON with a `type`."""


class Kept(str):
    """The reason why data outlasts the deletion of its user."""


class AtOnce(str):
    """The data that is erased before the request is answered."""


class NotExported(str):
    """The reason why a collection has no lines of an export."""


@dataclass(frozen=True, slots=True)
class Store:
    collection: str
    erase: Callable[[str, datetime], Awaitable[int]] | AtOnce | Kept
    """Removes at most ERASED items that a user who was deleted at that time must not leave behind. Returns their number.
    It may run twice at the same time, and keeps what is newer if the user was restored."""
    export: Callable[[str], AsyncIterator[Line]] | NotExported
    """Yields what the collection has of a user."""


IMPERSONAL = frozenset({"ended", "nodes", "relays", "schema"})
"""The collections without personal data."""


class PersonalData:
    def __init__(
        self,
        mongo: Mongo,
        memberships: Memberships,
        users: Users,
        participants: Participants,
        jobs: Jobs,
    ) -> None:
        self._mongo = mongo
        self._memberships = memberships
        self._users = users
        self._participants = participants
        self._jobs = jobs
        self.stores = (
            Store("users", AtOnce("the profile; from then on the user is refused"), self._profile),
            # Roles. Read marks, and where the user has hidden messages, become absences.
            Store("participants", self._leave_some, self._conversations_of),
            Store(
                "memberships", self._leave_some, NotExported("copies of what the participants have")
            ),
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
                "conversation_keys",
                Kept("a hash of the users for whom a conversation was created, while it exists"),
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
            Store(
                "jobs", Kept("the id of the user, until the job is done"), NotExported("only ids")
            ),
        )

    async def delete_user(self, user_id: str) -> bool:
        """Delete a user: refuse the user's tokens, close the user's sockets, leave all conversations.

        Returns False if the background has to go on. A repeat of the request begins the work again. Raises NotFound.
        """
        total = await self._memberships.by_user.count_documents({"userId": user_id})

        async def store(session: Session) -> Job:
            await self._users.mark_deleted(user_id, session)
            return await self._jobs.add(USER_DELETION, user_id, session, total=total)

        job = await self._mongo.transaction(store)
        await self._users.shut_out_deleted(user_id)
        return await self._jobs.finish(replace(job, state=_SHUT_OUT))

    async def erase_some(self, job: Job) -> Progress:
        """The next step of a deletion."""
        if job.state != _SHUT_OUT:
            # Again: the node that answered the request may have died before all nodes knew.
            await self._users.shut_out_deleted(job.subject)
        erased = 0
        for store in self.stores:
            if isinstance(store.erase, (AtOnce, Kept)):
                continue
            erased += await store.erase(job.subject, job.added_at)
            if erased >= ERASED:
                return Progress(erased, _SHUT_OUT)
        return Progress(erased, again_in_s=None)

    async def _leave_some(self, user_id: str, deleted_at: datetime) -> int:
        """Leave some conversations, direct ones included. A user who was restored keeps those joined since."""
        where: Document = {"userId": user_id}
        if not await self._users.deleted([user_id]):
            where["joinedAt"] = {"$lte": deleted_at}
        found = self._memberships.by_user.find(where, {"conversationId": 1, "joinedAt": 1})
        few = asyncio.Semaphore(LEAVES_AT_ONCE)

        async def leave(doc: Document) -> None:
            async with few:
                await self._participants.put_out(doc["conversationId"], user_id, doc["joinedAt"])

        left = [leave(doc) async for doc in found.limit(ERASED)]
        for failure in await asyncio.gather(*left, return_exceptions=True):
            if failure is not None:
                raise failure
        return len(left)

    async def export(self, user_id: str) -> AsyncIterator[Line]:
        """Yields everything that is stored of a user, except reactions: they have no index by user."""
        for store in self.stores:
            if not isinstance(store.export, NotExported):
                async for line in store.export(user_id):
                    yield line

    async def _profile(self, user_id: str) -> AsyncIterator[Line]:
        if (doc := await self._mongo.users.find_one({"_id": user_id})) is not None:
            yield {"type": "profile", **user_view(doc)}

    async def _conversations_of(self, user_id: str) -> AsyncIterator[Line]:
        own = self._memberships.by_user.find({"userId": user_id}, {"conversationId": 1})
        cursor = own.sort("conversationId")
        while rows := await cursor.to_list(CONVERSATIONS):
            ids = [member_id(row["conversationId"], user_id) for row in rows]
            async for doc in self._mongo.participants.find({"_id": {"$in": ids}}).sort("_id"):
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
