"""Conversations as callers see them. Any number of them is read with one query, then unread messages are
counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from .. import json_codec
from ..clock import EPOCH, iso
from ..errors import NotFound
from ..mongo import Document, Mongo, Session
from .memberships import Memberships
from .message import Message
from .read_state.unread import Unread
from .rosters import FIRST_MEMBERS, Rosters, first_of

_LAST_MESSAGE: Document = {
    "$lookup": {
        "from": "log",
        "localField": "_id",
        "foreignField": "conversationId",
        "pipeline": [{"$match": {"seq": {"$gte": 1}}}, {"$sort": {"seq": -1}}, {"$limit": 1}],
        "as": "last",
    }
}
LAST_ENTRY: Document = {
    # The highest id in the conversation's range: the ids of entries start with the conversation's.
    "$lookup": {
        "from": "log",
        "let": {"low": {"$concat": ["$_id", "-"]}, "high": {"$concat": ["$_id", "."]}},
        "pipeline": [
            {
                "$match": {
                    "$expr": {"$and": [{"$gt": ["$_id", "$$low"]}, {"$lt": ["$_id", "$$high"]}]}
                }
            },
            {"$sort": {"_id": -1}},
            {"$limit": 1},
            {"$project": {"lastRev": 1}},
        ],
        "as": "latest",
    }
}
_WHOLE: list[Document] = [FIRST_MEMBERS, _LAST_MESSAGE, LAST_ENTRY]


_NEVER = datetime(9999, 1, 1)  # noqa: DTZ001
_MEMBER: list[Document] = [
    {"$set": {"member": {"$concat": ["$conversationId", ":", "$userId"]}}},
    {
        "$lookup": {
            "from": "participants",
            "localField": "member",
            "foreignField": "_id",
            "as": "own",
        }
    },
    {"$unwind": "$own"},
    {"$set": {"own.activityAt": "$activityAt"}},
]
_CONVERSATION: Document = {
    "$lookup": {
        "from": "conversations",
        "localField": "conversationId",
        "foreignField": "_id",
        "as": "conversation",
    }
}


def _after(last: tuple[datetime, str]) -> list[Document]:
    """Returns alternatives, each of which is one range of the index of a user's list."""
    at, last_id = last
    return [
        {"activityAt": {"$gte": EPOCH, "$lt": at}},
        {"activityAt": at, "conversationId": {"$lt": last_id}},
    ]


class Views:
    def __init__(
        self, mongo: Mongo, unread: Unread, rosters: Rosters, memberships: Memberships
    ) -> None:
        self._mongo = mongo
        self._unread = unread
        self._rosters = rosters
        self._memberships = memberships

    async def conversation(
        self,
        conversation_id: str,
        reader_id: str | None = None,
        *,
        hides: bool = False,
        session: Session | None = None,
    ) -> dict[str, Any]:
        """Returns the conversation as a participant sees it, or as all do. Raises NotFound.

        `hides`: the reader has hidden messages in it.
        """
        cursor = await self._mongo.conversations.aggregate(
            [{"$match": {"_id": conversation_id}}, *_WHOLE], session=session
        )
        docs = await cursor.to_list(1)
        if not docs:
            raise NotFound()
        (doc,) = docs
        await self._rosters.complete(docs, reader_id, session=session)
        doc["view"] = self._view(doc)
        if hides and reader_id and doc["last"]:
            await self._hide(reader_id, doc)
        view: dict[str, Any] = doc["view"]
        return view

    async def own_views(
        self, conversation_id: str, hider_ids: Iterable[str], *, session: Session | None = None
    ) -> Mapping[str, Mapping[str, Any]]:
        """Returns the conversation as seen by each of these participants who has hidden its last message."""
        if not (hider_ids := list(hider_ids)):
            return {}
        last = await self._mongo.log.find_one(
            {"conversationId": conversation_id, "seq": {"$gte": 1}},
            {"seq": 1},
            sort=[("seq", -1)],
            session=session,
        )
        if last is None:
            return {}
        hides = self._mongo.log.find(
            {
                "hiddenFor": {"$in": hider_ids},
                "conversationId": conversation_id,
                "hiddenSeq": last["seq"],
            },
            {"hiddenFor": 1},
            session=session,
        )
        users = [doc["hiddenFor"] async for doc in hides]
        return {
            user_id: await self.conversation(conversation_id, user_id, hides=True, session=session)
            for user_id in users
        }

    async def own(
        self, user_id: str, limit: int, before: tuple[datetime, str] | None, settled: datetime
    ) -> list[Document]:
        """Returns a user's conversations with unread counts, most recently active first.

        `before`: the last activity and the id of the last conversation on the previous page. Rows with a date before
        `settled` have that of their conversation.
        """
        rows = self._memberships.by_user.name
        mine = {"userId": user_id}
        before = before or (_NEVER, "")
        first: list[Document] = [
            {"$sort": {"activityAt": -1, "conversationId": -1}},
            {"$limit": limit},
        ]
        others: list[Document] = [
            {
                "$match": {
                    "$or": [
                        {**mine, "activityAt": None},
                        {**mine, "activityAt": {"$gte": settled}},
                    ]
                }
            },
            _CONVERSATION,
            {"$set": {"activityAt": {"$first": "$conversation.activityAt"}}},
            {"$match": {"$or": _after(before)}},
        ]
        stages: list[Document] = [
            {
                "$match": {
                    "$or": [{**mine, **which} for which in _after(min(before, (settled, "")))]
                }
            },
            *first,
            {"$unionWith": {"coll": rows, "pipeline": [*others, *first]}},
            *first,
            _CONVERSATION,
            {"$unwind": "$conversation"},
            *_MEMBER,
            {"$replaceRoot": {"newRoot": {"$mergeObjects": ["$conversation", {"own": "$own"}]}}},
            *_WHOLE,
        ]
        # From one snapshot: otherwise a conversation that becomes large or small meanwhile could be in neither part.
        cursor = await self._mongo.snapshots[rows].aggregate(stages)
        docs = await cursor.to_list(limit)
        counts = await self._unread.counts(
            [(doc["own"], doc["last"][0]["seq"] if doc["last"] else 0) for doc in docs]
        )
        await self._rosters.complete(docs, user_id)
        for doc, count in zip(docs, counts, strict=True):
            doc["view"] = {**self._view(doc), "unreadCount": count}
            if doc["own"].get("hides") and doc["last"]:
                await self._hide(user_id, doc)
        return docs

    async def _hide(self, user_id: str, doc: Document) -> None:
        last = doc["last"][0]
        hide = await self._mongo.log.find_one(
            {"hiddenFor": user_id, "conversationId": doc["_id"], "hiddenSeq": last["seq"]}
        )
        if hide is not None:
            doc["view"]["lastMessage"] = Message(last).hidden_by(hide).json

    def new(self, conversation: Document, members: Sequence[Document]) -> dict[str, Any]:
        """Returns the view of a conversation that has no messages yet, as all participants see it."""
        shown = {"members": first_of(members), "participantCount": len(members)}
        return self._view({**conversation, **shown, "last": [], "latest": []})

    def _view(self, doc: Document) -> dict[str, Any]:
        metadata = doc.get("metadata")
        last = Message(doc["last"][0]) if doc["last"] else None
        return {
            "id": doc["_id"],
            "type": doc["type"],
            "name": doc["name"],
            "avatarUrl": doc["avatarUrl"],
            "metadata": json_codec.Json(metadata) if metadata else {},
            "createdBy": doc["createdBy"],
            "createdAt": iso(doc["createdAt"]),
            "updatedAt": iso(doc["updatedAt"]),
            "lastSeq": last.seq if last else 0,
            "lastRev": doc["latest"][0]["lastRev"] if doc["latest"] else 0,
            "lastMessage": last.json if last else None,
            "participantCount": doc["participantCount"],
            "isLarge": self._rosters.is_large(doc["participantCount"]),
            "participants": [participant_view(member) for member in doc["members"]],
        }


def participant_view(doc: Document) -> dict[str, Any]:
    return {
        "userId": doc["userId"],
        "role": doc["role"],
        "joinedAt": iso(doc["joinedAt"]),
        "lastReadSeq": doc["lastReadSeq"],
    }
