"""The collections and their indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import IndexModel


def _index(*keys: tuple[str, int], name: str, **options: Any) -> IndexModel:
    return IndexModel(list(keys), name=name, **options)


def _having(field: str) -> Mapping[str, Any]:
    return {"partialFilterExpression": {field: {"$exists": True}}}


INDEXES: Mapping[str, list[IndexModel]] = {
    "log": [
        _index(("conversationId", 1), ("seq", 1), name="seq", unique=True, **_having("seq")),
        _index(("conversationId", 1), ("rev", 1), name="rev", **_having("rev")),
        _index(
            ("conversationId", 1),
            ("senderId", 1),
            ("clientMessageId", 1),
            name="once",
            unique=True,
            **_having("clientMessageId"),
        ),
        _index(("conversationId", 1), ("senderId", 1), ("seq", 1), name="own", **_having("seq")),
        _index(
            ("conversationId", 1),
            ("seq", 1),
            ("senderId", 1),
            name="deleted",
            **_having("deletedAt"),
        ),
        _index(("conversationId", 1), ("rev", 1), name="deletions", **_having("deletedAt")),
        _index(
            ("hiddenFor", 1),
            ("conversationId", 1),
            ("hiddenSeq", 1),
            name="hidden",
            **_having("hiddenFor"),
        ),
        _index(
            ("hiddenFor", 1),
            ("conversationId", 1),
            ("lastRev", 1),
            name="hidings",
            **_having("hiddenFor"),
        ),
        _index(("at", 1), name="at"),
        _index(("due", 1), ("_id", 1), name="pending", **_having("due")),
        _index(("expiresAt", 1), name="expires", expireAfterSeconds=0, **_having("expiresAt")),
    ],
    "ended": [],
    "jobs": [_index(("runAt", 1), name="due")],
    "holds": [
        _index(("endpoint", 1), ("partition", 1), name="endpoint"),
        _index(("endpoint", 1), ("eventAt", 1), name="oldest"),
    ],
    "deadletters": [
        _index(("endpoint", 1), ("diedAt", -1), ("_id", -1), name="endpoint"),
        _index(("diedAt", -1), ("_id", -1), name="newest"),
        _index(("key", 1), name="key"),
        _index(("expiresAt", 1), name="expires", expireAfterSeconds=0),
    ],
    "relays": [
        # Removes the leases of relays that stopped an hour ago.
        _index(("until", 1), name="until", expireAfterSeconds=3600),
    ],
    # Servers of schema 3 and before have a unique index `key`, by which they find a conversation with a key. It is not
    # created any more, but stays where it is, because they still run during an upgrade. The step after schema 5 drops it.
    "conversations": [],
    "conversation_keys": [],
    # The same is true of the indexes `user` (unique) and `recent` of servers of schema 4 and before: by them these servers, and
    # this one beside them, find the conversations of a user. The step after schema 5 drops them.
    "participants": [
        _index(("conversationId", 1), ("joinedAt", 1), ("userId", 1), name="conversation"),
        _index(("conversationId", 1), ("role", 1), ("joinedAt", 1), ("userId", 1), name="roles"),
        _index(("joinedAt", 1), name="joined"),
    ],
    "memberships": [
        # With all that a connect reads, so that it reads no documents.
        _index(
            ("userId", 1), ("activityAt", -1), ("conversationId", -1), ("hides", 1), name="recent"
        ),
        _index(("userId", 1), ("conversationId", 1), name="user"),
        _index(("conversationId", 1), ("userId", 1), name="conversation"),
    ],
    # By the id, which begins with the conversation's.
    "absences": [],
    "receipts": [
        _index(("conversationId", 1), ("userId", 1), ("from", 1), name="range"),
        _index(("conversationId", 1), ("at", 1), name="told", **_having("place")),
        _index(("userId", 1), ("at", 1), name="own", **_having("own")),
        _index(("conversationId", 1), ("blocks", 1), ("at", 1), ("userId", 1), name="readers"),
    ],
    "reactions": [
        _index(("messageId", 1), ("emoji", 1), ("number", 1), name="list"),
    ],
    # Two documents (see schema.py).
    "schema": [],
    # Few documents: a lease is removed once nothing is recorded under it.
    "nodes": [],
    "users": [
        _index(("on", 1), name="on", **_having("on")),
        _index(("presenceAt", 1), name="presence", **_having("presenceAt")),
        _index(("namedAt", 1), name="unseen", **_having("namedAt")),
    ],
    "outbox": [
        _index(("due", 1), ("_id", 1), name="pending", **_having("due")),
        _index(("at", 1), name="at"),
        _index(("expiresAt", 1), name="expires", expireAfterSeconds=0, **_having("expiresAt")),
    ],
}

SHARD_KEYS: Mapping[str, str | None] = {
    "log": "conversationId",
    "conversations": "_id",
    "conversation_keys": "_id",
    "participants": "conversationId",
    "memberships": "userId",
    "absences": "_id",
    "receipts": "conversationId",
    "reactions": "messageId",
    "users": "_id",
    "outbox": "_id",
    # Small, or soon empty.
    **dict.fromkeys(("ended", "jobs", "holds", "deadletters", "relays", "schema", "nodes")),
}
"""The field by which each collection can be sharded; None: it stays on one shard.

What must be unique begins with this field, because a shard knows only its own documents. A request names the field, or an
`_id` that begins with its value. So a request asks the shards of its conversations and users, however many there are.
"""
