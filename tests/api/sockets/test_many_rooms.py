"""A user with more conversations than a socket enters when it connects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pymongo
import pytest

from chatserver.clock import now
from chatserver.mongo.schema import membership
from tests.conftest import Starter
from tests.support.patience import PATIENCE_S
from tests.support.people import People, Person
from tests.support.raw import Wire
from tests.support.redises import RedisServer

ENTERED = 5_000
MORE = 20
BEGAN = now() - timedelta(days=1)


def active_at(n: int) -> datetime:
    return BEGAN + timedelta(seconds=n)


def seed(settings: dict[str, str], alice: Person, bob: Person) -> list[str]:
    """Stores conversations of the two, the one that was active last at the end."""
    ids = [f"{alice.id}-{n:04}" for n in range(ENTERED + MORE)]
    with pymongo.MongoClient[Any](settings["MONGO_URL"]) as client:
        database = client[settings["MONGO_DATABASE"]]
        database.conversations.insert_many(
            {
                **dict.fromkeys(("name", "avatarUrl")),
                **dict.fromkeys(("createdAt", "updatedAt", "activityAt"), active_at(n)),
                "_id": talk,
                "type": "group",
                "createdBy": alice.id,
                "memberCount": 2,
                "events": 0,
                "countedAt": 0,
            }
            for n, talk in enumerate(ids)
        )
        rows = [
            {
                "_id": f"{talk}:{person.id}",
                "conversationId": talk,
                "userId": person.id,
                "role": role,
                "joinedAt": active_at(n),
                "lastReadSeq": 0,
            }
            for n, talk in enumerate(ids)
            for person, role in ((alice, "owner"), (bob, "member"))
        ]
        database.participants.insert_many(rows)
        database.memberships.insert_many(
            membership(row, {"activityAt": row["joinedAt"]}) for row in rows
        )
    return ids


@pytest.mark.parametrize("nodes", [1, 2])
async def test_the_last_active_are_entered_and_the_others_can_be_joined(
    start: Starter,
    own_redis: RedisServer,
    people_of: Callable[..., People],
    nodes: int,
) -> None:
    settings = {"REDIS_URL": own_redis.url} if nodes > 1 else {}
    servers = [await start(**settings, NODE_NAME=f"node-{n}") for n in range(nodes)]
    alice, bob = people_of(servers[0])("alice", "bob")
    ids = seed(servers[0].env, alice, bob)
    bob = bob.at(servers[-1])
    left_out = ids[:MORE]
    first, second, third = left_out[:3]

    async def says(talk: str) -> Any:
        return await bob.ask("POST", f"/conversations/{talk}/messages", {"content": "Hi"})

    phone = await alice.connect()
    welcome = dict(phone.heard)["connected"]
    assert welcome["roomsTruncated"] is True
    assert welcome["rooms"] == sorted(ids[MORE:])

    # It receives nothing of the others, but misses nothing: list, unread count, history and sync have it.
    missed = await says(first)
    heard = await says(ids[-1])
    assert (await phone.hears("message:new"))["id"] == heard["id"]
    async with asyncio.timeout(PATIENCE_S):
        while True:  # The list follows other nodes within half a second.
            page = await alice.ask("GET", "/conversations?limit=2")
            listed = {talk["id"]: talk["unreadCount"] for talk in page["items"]}
            if listed == {first: 1, ids[-1]: 1}:
                break
            await asyncio.sleep(0.1)
    synced = await phone.do("messages:sync", {"conversationId": first, "afterSeq": 0})
    assert synced["messages"] == [missed]
    await phone.do("room:leave", {"conversationId": second})

    # It joins one, and receives what comes from then on, once.
    await phone.do("room:join", {"conversationId": first})
    await phone.do("room:join", {"conversationId": first})
    later = await says(first)
    assert (await phone.hears("message:new"))["id"] == later["id"]

    # Another device has its own rooms. The one that was joined is among those that were active last.
    tablet = await alice.connect()
    welcome = dict(tablet.heard)["connected"]
    assert (len(welcome["rooms"]), welcome["roomsTruncated"]) == (ENTERED, True)
    assert first in welcome["rooms"]
    assert ids[MORE] not in welcome["rooms"], "the oldest of before made room for it"
    for talk in (ids[MORE], first):
        sent = await says(talk)
        assert (await phone.hears("message:new"))["id"] == sent["id"], "the phone stays where it is"
    assert (await tablet.hears("message:new"))["id"] == sent["id"]

    # Removed users leave, whether they are in the room or not, and cannot join any more.
    for talk in (third, first):
        await alice.ask("DELETE", f"/conversations/{talk}/participants/{alice.id}")
        for device in (phone, tablet):
            assert (await device.hears("conversation:removed"))["conversationId"] == talk
        await says(talk)
        for event in ("room:join", "room:leave"):
            refusal = await phone.refused(event, {"conversationId": talk})
            assert refusal.code == "NOT_FOUND"
    back = {"userIds": [alice.id]}
    await bob.ask("POST", f"/conversations/{third}/participants", back)
    for device in (phone, tablet):
        assert (await device.hears("conversation:joined"))["id"] == third
    await says(third)
    for device in (phone, tablet):
        assert (await device.hears("message:new"))["conversationId"] == third
        got = await device.all_heard("message:new")
        assert len({message["id"] for message in got}) == len(got), "nothing twice"

    stranger = await people_of(servers[0])("carol").connect()
    assert "roomsTruncated" not in dict(stranger.heard)["connected"]
    refusal = await stranger.refused("room:join", {"conversationId": second})
    assert refusal.code == "NOT_FOUND"


async def test_a_connect_costs_by_the_rooms_that_it_enters(
    start: Starter, people_of: Callable[..., People]
) -> None:
    server = await start(RATE_LIMITS="on")
    alice, bob = people_of(server)("alice", "bob")
    seed(server.env, alice, bob)
    wire = await Wire.open(alice)
    began = time.monotonic()
    for _ in range(40):
        await wire.introduce()
        await wire.write("41")

    def answers() -> int:
        refusals = [frame for frame in wire.frames if frame.startswith("44")]
        assert all("RATE_LIMITED" in refusal for refusal in refusals)
        return len(wire.told("connected")) + len(refusals)

    await wire.until(lambda: answers() == 40)
    # Twenty devices may do this at the same time: each takes five tokens of a hundred, and of twenty a second.
    assert 20 <= len(wire.told("connected")) <= 21 + 4 * (time.monotonic() - began)
    await wire.close()
