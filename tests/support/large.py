"""Conversations in numbers that would take long to create over the API: they are written to the database."""

from __future__ import annotations

from typing import Any

from chatserver.chat.participants import participant
from chatserver.chat.rosters import counted
from chatserver.clock import now
from chatserver.mongo import Document, Mongo, new_id
from chatserver.mongo.schema import membership
from tests.support.people import Person

AT_ONCE = 1000
"""Documents of a write. One of all could take longer than an operation may."""


async def conversations(mongo: Mongo, count: int, owner: Person, *others: Person) -> list[str]:
    """Creates groups of these people. Returns their ids."""
    people = [owner.id, *(other.id for other in others)]
    return [(await _store(mongo, "group", people))["_id"] for _ in range(count)]


async def channel(mongo: Mongo, size: int, owner: Person, *others: Person) -> dict[str, Any]:
    """Creates a channel of these people and of further members, whose ids begin with `member-`."""
    people = [owner.id, *(other.id for other in others)]
    people += [f"member-{n}" for n in range(size - len(people))]
    return {"id": (await _store(mongo, "channel", people))["_id"]}


async def _store(mongo: Mongo, kind: str, people: list[str]) -> Document:
    at = now()
    conversation: Document = {
        "_id": new_id(),
        "type": kind,
        "name": None,
        "avatarUrl": None,
        "createdBy": people[0],
        "createdAt": at,
        "updatedAt": at,
        "activityAt": at,
        **counted(len(people)),
    }
    await mongo.conversations.insert_one(conversation)
    roles = ["owner", *["member"] * (len(people) - 1)]
    members = [
        participant(conversation["_id"], user_id, role, at)
        for user_id, role in zip(people, roles, strict=True)
    ]
    for n in range(0, len(members), AT_ONCE):
        await mongo.participants.insert_many(members[n : n + AT_ONCE])
        rows = [membership(member, {}) for member in members[n : n + AT_ONCE]]
        await mongo.memberships.insert_many(rows)
    return conversation
