"""The keys of conversations: two users share one direct conversation, and a set of users one private group.

A key is the `_id` of a document of its own, so the database refuses a second conversation with the same key, on any
number of shards. The conversation has its key, too: there it is found when the key ends with the conversation.

Nodes of an earlier version know only the field `key` of the conversation and a unique index on it. So a key that
they have ended is still stored here, and one that they have added is not. The first is noticed when the key is read. The
second is found by their index, until `repair` has stored it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

from .. import json_codec
from ..mongo import Document, DuplicateKeyError, Mongo, Session, duplicate_of, first_id
from ..mongo.schema import BATCH, add_keys

MARGIN = timedelta(seconds=60)
"""Allows for the difference between the nodes' clocks, and for the time until a conversation is stored."""


def key_of(kind: str, user_ids: Iterable[str]) -> str:
    """Returns one key per set of users, in any order, with a fixed size."""
    return f"{kind}:{hashlib.sha256(json_codec.encode(sorted(user_ids))).hexdigest()}"


class ConversationKeys:
    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    async def find(self, key: str) -> str | None:
        """Returns the conversation with this key."""
        stored = await self._mongo.conversation_keys.find_one({"_id": key})
        if stored is None:
            return None
        if await self._is_used(stored):
            conversation_id: str = stored["conversationId"]
            return conversation_id
        await self._mongo.transaction(partial(self._remove_unused, stored))
        return None

    async def _is_used(self, stored: Document, session: Session | None = None) -> bool:
        which = {"_id": stored["conversationId"], "key": stored["_id"]}
        found = await self._mongo.conversations.find_one(which, {"_id": 1}, session=session)
        return found is not None

    async def _remove_unused(self, stored: Document, session: Session) -> None:
        # In a transaction: on several shards, the key could be seen before its new conversation.
        if not await self._is_used(stored, session):
            await self._mongo.conversation_keys.delete_one(stored, session=session)

    async def add(self, key: str, conversation_id: str, session: Session) -> None:
        """Add the key of a new conversation. Raises DuplicateKeyError: see `taken`."""
        doc = {"_id": key, "conversationId": conversation_id}
        await self._mongo.conversation_keys.insert_one(doc, session=session)

    async def taken(self, key: str, error: DuplicateKeyError) -> bool:
        """Returns True if a new conversation was refused because another one has its key."""
        index = duplicate_of(error)
        if index == "key":
            await self._mongo.transaction(partial(self._adopt, key))
        return index in ("key", "_id")

    async def _adopt(self, key: str, session: Session) -> None:
        found = self._mongo.conversations.find({"key": key}, {"key": 1}, session=session)
        await add_keys(self._mongo, [doc async for doc in found], session)

    async def remove(self, conversation: Document, session: Session) -> None:
        """The conversation ends, or loses its key. It may have none."""
        if key := conversation.get("key"):
            which = {"_id": key, "conversationId": conversation["_id"]}
            await self._mongo.conversation_keys.delete_one(which, session=session)

    async def repair(self, since: datetime) -> None:
        """Add the keys of conversations that nodes of an earlier version have created since that time."""
        after: str | None = first_id(since - MARGIN)
        while after is not None:
            after = await self._mongo.transaction(partial(self._add_some, after))

    async def _add_some(self, after: str, session: Session) -> str | None:
        docs = await self._mongo.page("conversations", after, BATCH, session)
        await add_keys(self._mongo, docs, session)
        return docs[-1]["_id"] if docs else None
