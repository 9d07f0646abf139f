"""Conversations as callers see them. Any number of them is read with one query, then unread messages are
counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .. import json_codec
from ..clock import iso
from ..errors import NotFound
from ..mongo import Document, Mongo, Session
from .message import Message
from .read_state.unread import Unread

_MEMBERS: Document = {
    "$lookup": {
        "from": "participants",
        "localField": "_id",
        "foreignField": "conversationId",
        "pipeline": [{"$sort": {"joinedAt": 1, "userId": 1}}],
        "as": "members",
    }
}


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
_WHOLE: list[Document] = [_MEMBERS, _LAST_MESSAGE, LAST_ENTRY]


class Views:
    def __init__(self, mongo: Mongo, unread: Unread) -> None:
        self._mongo = mongo
        self._unread = unread

    async def conversation(
        self,
        conversation_id: str,
        hider_id: str | None = None,
        *,
        session: Session | None = None,
    ) -> dict[str, Any]:
        """Returns the conversation as its participants see it. Raises NotFound.

        `hider_id`: returns it as seen by this participant, who has hidden messages in it.
        """
        cursor = await self._mongo.conversations.aggregate(
            [{"$match": {"_id": conversation_id}}, *_WHOLE], session=session
        )
        async for doc in cursor:
            doc["view"] = _view(doc)
            if hider_id and doc["last"]:
                await self._hide(hider_id, doc)
            return doc["view"]
        raise NotFound()

    async def own_views(
        self, conversation_id: str, hider_ids: Iterable[str], *, session: Session | None = None
    ) -> Mapping[str, Mapping[str, Any]]:
        """Returns the conversation as seen by each of these participants, who have hidden messages in it."""
        return {
            user_id: await self.conversation(conversation_id, user_id, session=session)
            for user_id in hider_ids
        }

    async def own(self, user_id: str, limit: int, before: tuple[Any, str] | None) -> list[Document]:
        """Returns a user's conversations with unread counts, most recently active first.

        `before`: the last activity and the id of the last conversation on the previous page.
        """
        stages: list[Document] = [
            {"$match": {"userId": user_id}},
            {
                "$lookup": {
                    "from": "conversations",
                    "localField": "conversationId",
                    "foreignField": "_id",
                    "as": "conversation",
                }
            },
            {"$unwind": "$conversation"},
            {"$replaceRoot": {"newRoot": {"$mergeObjects": ["$conversation", {"own": "$$ROOT"}]}}},
            {"$unset": "own.conversation"},
        ]
        if before:
            at, last_id = before
            stages.append(
                {
                    "$match": {
                        "$or": [
                            {"activityAt": {"$lt": at}},
                            {"activityAt": at, "_id": {"$lt": last_id}},
                        ]
                    }
                }
            )
        stages += [{"$sort": {"activityAt": -1, "_id": -1}}, {"$limit": limit}, *_WHOLE]
        cursor = await self._mongo.participants.aggregate(stages)
        docs = await cursor.to_list(limit)
        counts = await self._unread.counts(
            [(doc["own"], doc["last"][0]["seq"] if doc["last"] else 0) for doc in docs]
        )
        for doc, count in zip(docs, counts, strict=True):
            doc["view"] = {**_view(doc), "unreadCount": count}
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


def participant_view(doc: Document) -> dict[str, Any]:
    return {
        "userId": doc["userId"],
        "role": doc["role"],
        "joinedAt": iso(doc["joinedAt"]),
        "lastReadSeq": doc["lastReadSeq"],
    }


def new_view(conversation: Document, members: list[Document]) -> dict[str, Any]:
    """Returns the view of a conversation that has no messages yet."""
    return _view({**conversation, "members": members, "last": [], "latest": []})


def _view(doc: Document) -> dict[str, Any]:
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
        "participantCount": len(doc["members"]),
        "participants": [participant_view(member) for member in doc["members"]],
    }
