"""Memberships: which conversations a user has, with all that a list and a connect read of them.

`participants` is kept by conversation, and `memberships` by user, so each can be distributed over shards. The documents
of a member in both are written in one transaction.

Nodes of an earlier version write to `participants` only. So while such a node may run, this one reads the
conversations of users there, too, and `repair` completes the memberships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from ..mongo import Collection, Document, Mongo, Session
from ..mongo.schema import membership, membership_id
from .recency import Recency

MARGIN = timedelta(seconds=60)
"""Allows for the difference between the nodes' clocks, and for the time until a change is stored."""
AT_ONCE = 500
"""Participants that a repair compares at once."""
_FIELDS = ("joinedAt", "hides")


def member_id(conversation_id: str, user_id: str) -> str:
    """Returns the id of the document in `participants`."""
    return f"{conversation_id}:{user_id}"


class Memberships:
    def __init__(
        self, mongo: Mongo, recency: Recency, others_may_be_older: Callable[[], bool]
    ) -> None:
        self._mongo = mongo
        self._recency = recency
        self._others_may_be_older = others_may_be_older

    @property
    def by_user(self) -> Collection:
        """The collection in which all conversations of a user are found: with `userId`, `conversationId`, `joinedAt`,
        `hides` and, as far as it is known there, `activityAt`."""
        if self._others_may_be_older():
            return self._mongo.participants
        return self._mongo.memberships

    async def members_among(self, user_ids: Sequence[str]) -> list[str]:
        """Returns those of the users who are in a conversation."""
        found = await self.by_user.aggregate(
            [{"$match": {"userId": {"$in": user_ids}}}, {"$group": {"_id": "$userId"}}]
        )
        return [doc["_id"] async for doc in found]

    async def add(
        self, participants: Sequence[Document], order: Document, session: Session
    ) -> None:
        """Users join, in the transaction that inserts these documents. `order`: see Recency."""
        docs = [membership(participant, order) for participant in participants]
        if self._others_may_be_older():
            # Such a node may have removed these users, but not their memberships.
            ids = [doc["_id"] for doc in docs]
            await self._mongo.memberships.delete_many({"_id": {"$in": ids}}, session=session)
        await self._mongo.memberships.insert_many(docs, session=session)

    async def remove(
        self, conversation_id: str, user_ids: Sequence[str], session: Session | None = None
    ) -> None:
        ids = [membership_id(user_id, conversation_id) for user_id in user_ids]
        await self._mongo.memberships.delete_many({"_id": {"$in": ids}}, session=session)

    async def note_hiding(self, participant: Document, session: Session | None) -> None:
        which = membership_id(participant["userId"], participant["conversationId"])
        await self._mongo.memberships.update_one(
            {"_id": which}, {"$set": {"hides": True}}, session=session
        )

    # --- what nodes of an earlier version wrote -------------------------------------------------

    async def repair(self, since: datetime) -> None:
        """Complete the memberships in conversations whose members have changed since that time."""
        since -= MARGIN
        kinds = {"$in": ["members", "hide", "end"]}
        changed = [
            (self._mongo.log, {"at": {"$gte": since}, "kind": kinds}),
            (self._mongo.participants, {"joinedAt": {"$gte": since}}),
        ]
        ids: set[str] = set()
        for collection, which in changed:
            of_each: list[Document] = [{"$match": which}, {"$group": {"_id": "$conversationId"}}]
            ids |= {doc["_id"] async for doc in await collection.aggregate(of_each)}
        for conversation_id in ids:
            await self._repair(conversation_id)

    async def _repair(self, conversation_id: str) -> None:
        after: str | None = ""
        is_wrong = False
        while after is not None:
            user_ids, after = await self._differing(conversation_id, after)
            for n in range(0, len(user_ids), AT_ONCE):
                await self.correct(conversation_id, user_ids[n : n + AT_ONCE])
                is_wrong = True
        if is_wrong:
            await self._recency.level(conversation_id)

    async def _differing(self, conversation_id: str, after: str) -> tuple[list[str], str | None]:
        """Returns users beyond `after` whose membership is wrong, and the last one that was compared."""
        beyond = {"conversationId": conversation_id, "userId": {"$gt": after}}
        ids = {"$gt": member_id(conversation_id, after), "$lt": f"{conversation_id};"}
        rows = self._mongo.participants.find({"_id": ids}, ["userId", *_FIELDS]).sort("_id")
        there = {doc["userId"]: doc async for doc in rows.limit(AT_ONCE)}
        last = max(there) if len(there) == AT_ONCE else None
        if last is not None:
            beyond["userId"] = {"$gt": after, "$lte": last}
        found = self._mongo.memberships.find(beyond, ["userId", *_FIELDS])
        here = {doc["userId"]: doc async for doc in found}
        return [
            user_id
            for user_id in there.keys() | here.keys()
            if user_id not in there
            or user_id not in here
            or any(there[user_id].get(key) != here[user_id].get(key) for key in _FIELDS)
        ], last

    async def correct(self, conversation_id: str, user_ids: Sequence[str]) -> None:
        """Make the memberships of these users what their participants say."""
        ids = [member_id(conversation_id, user_id) for user_id in user_ids]

        async def transaction(session: Session) -> None:
            # A change of the participants writes the conversation, too, so one of the two transactions runs again.
            conversation = await self._mongo.conversations.find_one_and_update(
                {"_id": conversation_id}, {"$inc": {"levelled": 1}}, session=session
            )
            members: list[Document] = []
            if conversation is not None:
                found = self._mongo.participants.find({"_id": {"$in": ids}}, session=session)
                members = [doc async for doc in found]
            await self.remove(conversation_id, user_ids, session)
            if conversation is not None and members:
                is_large = conversation.get("large", False)
                order = {} if is_large else {"activityAt": conversation["activityAt"]}
                docs = [membership(member, order) for member in members]
                await self._mongo.memberships.insert_many(docs, session=session)

        await self._mongo.transaction(transaction)
