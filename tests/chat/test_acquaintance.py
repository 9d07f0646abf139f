"""Users who share a conversation with a user, however many conversations the users have."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio

from chatserver.chat import membership
from chatserver.chat.membership import Members
from chatserver.chat.memberships import Memberships
from chatserver.chat.outside import ConversationRooms
from chatserver.mongo import Mongo
from chatserver.mongo.schema import membership_id


@pytest_asyncio.fixture
async def mongo(mongo_url: str, worker: str) -> AsyncIterator[Mongo]:
    mongo = Mongo(mongo_url, f"acquaintance-{worker}-{time.monotonic_ns()}")
    await mongo.start()
    yield mongo
    await mongo.close()


class NoRooms:
    def on(self, *_: Any) -> None: ...

    def on_departure(self, *_: Any) -> None: ...


def members_of(mongo: Mongo, ended: set[str]) -> Members:
    async def ended_among(conversation_ids: Any) -> set[str]:
        return ended & set(conversation_ids)

    memberships = Memberships(mongo, cast(Any, None), lambda: False)
    rooms = cast(ConversationRooms, NoRooms())
    return Members(mongo, memberships, rooms, cast(Any, None), ended_among)


@pytest.mark.parametrize(("few", "at_once"), [(2, 3), (3, 1), (9, 2), (100, 3)])
async def test_acquaintances_are_found_in_pages_of_any_size(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch, few: int, at_once: int
) -> None:
    monkeypatch.setattr(membership, "FEW", few)
    monkeypatch.setattr(membership, "FIRST", 2)
    monkeypatch.setattr(membership, "AT_ONCE", at_once)
    monkeypatch.setattr(membership, "MAX_AT_ONCE", 2 * at_once)
    chance = random.Random(few)
    users = [f"user-{n}" for n in range(12)]
    rooms = {
        user: {f"room-{chance.randint(0, 40):02}" for _ in range(chance.choice([0, 1, 3, 9]))}
        for user in users
    }
    ended = {"room-03", "room-11", "room-20"}
    await mongo.memberships.insert_many(
        [
            {"_id": membership_id(user, room), "conversationId": room, "userId": user}
            for user in users
            for room in rooms[user]
        ]
    )
    members = members_of(mongo, ended)
    for user in users:
        others = [other for other in users if other != user]
        found = await members.acquainted(user, chance.sample(others, len(others)))
        assert found.keys() == {other for other in others if rooms[user] & rooms[other] - ended}
        for other, room in found.items():
            assert room in rooms[user] & rooms[other] - ended
