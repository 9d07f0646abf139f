"""The participants of conversations of any size: the first ones for a view, pages of all, and exact counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..errors import NotFound, ValidationFailed
from ..mongo import AFTER, Document, Mongo, Session, page_cursor
from .conversation_keys import ConversationKeys
from .membership import ROLES
from .memberships import member_id
from .recency import Recency

SHOWN = 100
"""The most participants in a view of a conversation."""

_RANK = {role: rank for rank, role in enumerate(ROLES)}
_BY_JOINING = {"joinedAt": 1, "userId": 1}
_CHANGING = ("type", "key", "events", "countedAt", "memberCount", "activityAt", "large")


def _participants(name: str, limit: int, **where: Any) -> Document:
    """Returns the stage that looks up the first participants of a conversation in the order of joining."""
    return {
        "$lookup": {
            "from": "participants",
            "localField": "_id",
            "foreignField": "conversationId",
            "pipeline": [{"$match": where}, {"$sort": _BY_JOINING}, {"$limit": limit}],
            "as": name,
        }
    }


def first_of(members: Iterable[Document], caller_id: str | None = None) -> list[Document]:
    """Returns at most SHOWN of the participants: the caller, if there is one, then the owner, the admins and the
    members, each in the order of joining."""

    def place(member: Document) -> tuple[Any, ...]:
        is_other = member["userId"] != caller_id
        return is_other, _RANK[member["role"]], member["joinedAt"], member["userId"]

    return sorted(members, key=place)[:SHOWN]


def caller_first(view: Mapping[str, Any], caller_id: str) -> Mapping[str, Any]:
    """Returns the view of a caller who is among the participants in it."""
    shown = sorted(view["participants"], key=lambda member: member["userId"] != caller_id)
    return {**view, "participants": shown}


def counted(participants: int) -> Document:
    """Returns the fields of a new conversation that count its participants and their comings and goings."""
    return {"memberCount": participants, "events": 0, "countedAt": 0}


def _recounted(joined: int, left: int) -> Document:
    """Returns the same fields after a change, for a `$set` stage. A wrong count is removed (see `Rosters.complete`)."""
    before = {"$ifNull": ["$events", 0]}
    is_right = {"$eq": ["$countedAt", before]}
    after = {"$add": [before, joined + left]}
    return {
        "events": after,
        "countedAt": {"$cond": [is_right, after, "$$REMOVE"]},
        "memberCount": {"$cond": [is_right, {"$add": ["$memberCount", joined - left]}, "$$REMOVE"]},
    }


FIRST_MEMBERS = _participants("members", SHOWN + 1)
"""Adds `members` to a conversation, for `Rosters.complete`."""


class Rosters:
    """Lists and counts participants. The cost of a list does not grow with the conversation."""

    def __init__(
        self, mongo: Mongo, keys: ConversationKeys, recency: Recency, *, large: int
    ) -> None:
        """`large`: a conversation with more participants is large."""
        self._mongo = mongo
        self._keys = keys
        self._recency = recency
        self._large = large

    def is_large(self, participants: int) -> bool:
        return participants > self._large

    async def complete(
        self,
        conversations: Sequence[Document],
        caller_id: str | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        """Complete conversations that have FIRST_MEMBERS, for a view.

        `members` becomes what `first_of` all of them returns, and `participantCount` their number.
        """
        larger = [doc["_id"] for doc in conversations if len(doc["members"]) > SHOWN]
        leaders = await self._leaders(larger, session) if larger else {}
        for doc in conversations:
            members: Iterable[Document] = doc["members"]
            doc["participantCount"] = len(doc["members"])
            if doc["_id"] in leaders:
                doc["participantCount"] = await self._count(doc, session)
                own = await self._own(doc["_id"], caller_id, session) if caller_id else []
                found = {member["_id"]: member for member in (*members, *leaders[doc["_id"]], *own)}
                members = found.values()
            doc["members"] = first_of(members, caller_id)

    async def _leaders(
        self, conversation_ids: list[str], session: Session | None
    ) -> dict[str, list[Document]]:
        """Returns the owner and the first admins of each conversation."""
        stages: list[Document] = [
            {"$match": {"_id": {"$in": conversation_ids}}},
            {"$project": {"_id": 1}},
            _participants("owners", SHOWN, role="owner"),
            _participants("admins", SHOWN, role="admin"),
        ]
        found = await self._mongo.conversations.aggregate(stages, session=session)
        return {doc["_id"]: [*doc["owners"], *doc["admins"]] async for doc in found}

    async def _own(
        self, conversation_id: str, user_id: str, session: Session | None
    ) -> list[Document]:
        own = await self._mongo.participants.find_one(
            {"_id": member_id(conversation_id, user_id)}, session=session
        )
        return [own] if own is not None else []

    async def _count(self, doc: Document, session: Session | None, *, coming: int = 0) -> int:
        """Returns the number of participants of a conversation. `coming`: how many more `doc` has than the list.

        The conversation stores it, with the value of `events` for which it is right: a node of an earlier version
        changes only `events`. Then the participants are counted again.
        """
        events = doc.get("events", 0)
        if doc.get("countedAt") == events:
            return int(doc["memberCount"])
        count = coming + await self._mongo.participants.count_documents(
            {"conversationId": doc["_id"]}, session=session
        )
        # Only if nobody has joined or left since `events` was read.
        await self._mongo.conversations.update_one(
            {"_id": doc["_id"], "events": doc.get("events")},
            {"$set": {"memberCount": count, "countedAt": events}},
            session=session,
        )
        return count

    async def change(
        self, conversation_id: str, at: datetime, session: Session, *, joined: int, left: int
    ) -> tuple[int, int, Document]:
        """Count users who join and leave, before they do. Each is an outbox event. Raises NotFound.

        Returns the number of the first of these events, that of the participants after the change, and the fields
        of a participant that place the conversation in the list.
        """
        doc = await self._mongo.conversations.find_one_and_update(
            {"_id": conversation_id},
            [{"$set": {"updatedAt": at, **_recounted(joined, left)}}],
            dict.fromkeys(_CHANGING, 1),
            session=session,
            return_document=AFTER,
        )
        if doc is None:
            raise NotFound()
        if doc["type"] != "direct" and "key" in doc:
            # It is no longer the private group of exactly the users for whom it was created.
            await self._mongo.conversations.update_one(
                {"_id": conversation_id}, {"$unset": {"key": ""}}, session=session
            )
            await self._keys.remove(doc, session)
        first = doc["events"] - joined - left + 1
        count = await self._count(doc, session, coming=joined - left)
        return first, count, await self._recency.counted(doc, count, session)

    async def counts(self, conversation_ids: Iterable[str]) -> dict[str, int]:
        """Returns the number of participants of each conversation that exists."""
        found = self._mongo.conversations.find(
            {"_id": {"$in": list(conversation_ids)}},
            {"memberCount": 1, "countedAt": 1, "events": 1},
        )
        return {doc["_id"]: await self._count(doc, None) async for doc in found}

    async def page(
        self, conversation_id: str, role: str | None, limit: int, cursor: str | None
    ) -> tuple[list[Document], str | None]:
        """Returns participants, and the cursor of the next page: the owner, the admins, the members, each in the
        order of joining. `role`: only those with this role. Raises ValidationFailed."""
        roles = [each for each in ROLES if role in (None, each)]
        after: Document = {}
        if cursor is not None:
            began, _, rest = cursor.partition(".")
            if began not in roles:
                raise ValidationFailed.of("cursor", "Not a cursor of this list.")
            at, user_id = page_cursor.decode(rest)
            roles = roles[roles.index(began) :]
            after = {
                "$or": [{"joinedAt": {"$gt": at}}, {"joinedAt": at, "userId": {"$gt": user_id}}]
            }
        found: list[Document] = []
        for each in roles:
            where = {"conversationId": conversation_id, "role": each, **after}
            after = {}
            participants = self._mongo.participants.find(where).sort(list(_BY_JOINING.items()))
            found += [doc async for doc in participants.limit(limit + 1 - len(found))]
            if len(found) > limit:
                last = found[limit - 1]
                end = page_cursor.encode(last["joinedAt"], last["userId"])
                return found[:limit], f"{last['role']}.{end}"
        return found, None
