"""Presence by subscription, where all conversations but those of two are large: nothing else tells who comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.exposition import scrape, stores
from tests.support.people import PATIENCE_S, Device, People, Person, devices, presence
from tests.support.people_on_nodes import Spread, spread
from tests.support.redises import RedisServer
from tests.support.shapes import A_TIME

# The tests' servers have a grace period of 0.5 s, and gather transitions for less than that.
SETTLED_S = 1.0
SETTINGS = {"LARGE_CONVERSATION": "2"}


@pytest_asyncio.fixture(scope="module")
async def own_nodes(
    mongo_url: str, redis_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Spread]:
    folder, database = tmp_path_factory.mktemp("watch"), f"{worker}-watch-{time.time_ns()}"
    async with spread(mongo_url, redis_url, database, folder, count=2, **SETTINGS) as nodes:
        yield nodes


def never(person: Person) -> dict[str, Any]:
    return {"userId": person.id, "status": "offline", "lastSeen": None}


async def subscribe(device: Device, *people: Person) -> list[Any]:
    asked = {"userIds": [person.id for person in people]}
    items: list[Any] = (await device.do("presence:subscribe", asked))["items"]
    return items


async def heard(device: Device, person: Person, expected: list[str]) -> None:
    """The device receives these presence events about the person, and no others."""
    await becomes(device, person, expected)
    await device.caught_up()
    assert received(device, person) == expected


async def becomes(device: Device, person: Person, expected: list[str]) -> None:
    """Waits until the device has received these presence events about the person. Some wait for a search."""
    end = time.monotonic() + PATIENCE_S
    while received(device, person) != expected:
        assert time.monotonic() < end, received(device, person)
        await asyncio.sleep(0.05)


def received(device: Device, person: Person) -> list[str]:
    return [
        name
        for name, payload in device.heard
        if name in ("user:online", "user:offline") and payload["userId"] == person.id
    ]


async def come_and_go(observer: Person, person: Person) -> None:
    """The person comes online and goes offline, and all who share a conversation with the observer know it."""
    device = await person.connect()
    await presence(observer, person.id, "online")
    await device.close()
    await presence(observer, person.id, "offline")


async def test_a_subscribed_socket_receives_each_transition_once(everyone: People) -> None:
    alice, bob, carol = everyone("alice", "bob", "carol")
    for _ in range(3):
        await alice.group(bob, carol)
    await alice.direct(bob)
    desk, laptop, tablet, phone = await devices(alice, alice, carol, carol)
    for device, own, other in ((desk, alice, carol), (tablet, carol, alice)):
        await presence(alice, carol.id, "online")
        items = await subscribe(device, bob, own, other, bob)
        assert [(item["userId"], item["status"]) for item in items] == [
            (bob.id, "offline"),
            (own.id, "online"),
            (other.id, "online"),
        ]
        assert items[0] == never(bob)
    assert await subscribe(tablet, bob) == [never(bob)]

    bobs = await bob.connect()
    assert await tablet.hears("user:online") == {"userId": bob.id, "timestamp": A_TIME}
    await phone.caught_up()
    (here,) = await subscribe(phone, bob)
    assert here["status"] == "online"
    await bobs.close()
    offline = {"userId": bob.id, "lastSeen": A_TIME, "timestamp": A_TIME}
    assert await tablet.hears("user:offline") == offline
    assert await tablet.do("presence:unsubscribe", {"userIds": [bob.id, "unknown"]}) == {}
    await come_and_go(alice, bob)
    both = ["user:online", "user:offline"]
    await heard(tablet, bob, both)
    await heard(phone, bob, ["user:offline", *both])
    # Alice is told in her direct conversation with Bob, with and without a subscription.
    await heard(desk, bob, both * 2)
    await heard(laptop, bob, both * 2)
    # Users are not notified of themselves.
    await heard(desk, alice, [])


async def test_a_stranger_looks_never_seen_and_sends_nothing(everyone: People) -> None:
    alice, bob, carol, stranger = everyone("alice", "bob", "carol", "stranger")
    await alice.group(bob, carol)
    await come_and_go(stranger, stranger)
    desk = await alice.connect()
    await stranger.connect()
    await presence(stranger, stranger.id, "online")
    items = (
        await desk.do("presence:subscribe", {"userIds": [stranger.id, bob.id, f"no-{bob.id}"]})
    )["items"]
    assert [item["lastSeen"] for item in items] == [None, None, None]
    assert items[0] == never(stranger)
    await come_and_go(alice, bob)
    # Neither does a conversation in common bring back a subscription that never was.
    await stranger.group(alice, carol)
    for device in stranger.devices:
        await device.close()
    await presence(alice, stranger.id, "offline")
    await heard(desk, stranger, [])
    await heard(desk, bob, ["user:online", "user:offline"])


async def test_a_subscription_ends_when_nothing_is_shared_any_more(everyone: People) -> None:
    alice, bob, carol, dora, erik, *rest = everyone(
        "alice", "bob", "carol", "dora", "erik", "x", "y"
    )
    first = await alice.group(bob, carol, dora, erik, *rest)
    second = await alice.group(bob, carol)
    await alice.group(carol, *rest)
    desk = await alice.connect()
    await subscribe(desk, bob, carol, dora, erik)
    path = f"/conversations/{first['id']}/participants"
    for person in (bob, carol, dora):
        await alice.ask("DELETE", f"{path}/{person.id}")
    # With Bob and Carol she shares another conversation.
    for person in (bob, carol):
        await come_and_go(alice, person)
        await heard(desk, person, ["user:online", "user:offline"])
    # Dora is a stranger now, and remains one to this socket when she comes back.
    await come_and_go(dora, dora)
    await alice.ask("POST", path, {"userIds": [dora.id]})
    await come_and_go(alice, dora)
    await heard(desk, dora, [])
    # Alice leaves; another conversation is deleted.
    await alice.ask("DELETE", f"{path}/{alice.id}")
    await alice.ask("DELETE", f"/conversations/{second['id']}")
    for person in (bob, carol, erik):
        await come_and_go(person, person)
    for person, transitions in ((bob, 2), (carol, 4), (erik, 0)):
        await heard(desk, person, ["user:online", "user:offline"] * (transitions // 2))


async def test_a_large_conversation_that_was_deleted_is_not_shared(everyone: People) -> None:
    """Its participants are removed in the background."""
    alice, bob = everyone("alice", "bob")
    ids = [bob.id, *(f"{bob.id}-{n}" for n in range(999))]
    talk = await alice.ask("POST", "/conversations", {"type": "channel", "participantIds": ids})
    desks = await devices(alice, alice)
    for desk in desks:
        await subscribe(desk, bob)
    await come_and_go(alice, bob)
    for desk in desks:
        # Presence is recorded first: an event that the deletion overtakes is rightly not sent.
        await becomes(desk, bob, ["user:online", "user:offline"])
    await alice.ask("DELETE", f"/conversations/{talk['id']}")
    await come_and_go(bob, bob)
    for desk in desks:
        await heard(desk, bob, ["user:online", "user:offline"])
        assert await subscribe(desk, bob) == [never(bob)]


async def test_a_deleted_user_is_watched_no_more(everyone: People) -> None:
    alice, bob, *rest = everyone("alice", "bob", "carol", "dora")
    await alice.group(bob, *rest)
    desk, phone = await devices(alice, bob)
    await presence(alice, bob.id, "online")
    await subscribe(desk, bob)
    assert (await everyone.master("DELETE", f"/users/{bob.id}"))[0] in (202, 204)
    await phone.gone.wait()
    await asyncio.sleep(SETTLED_S)
    await desk.caught_up()
    assert "user:offline" not in received(desk, bob)
    assert await subscribe(desk, bob) == [never(bob)]


async def test_a_socket_watches_at_most_1000_users(everyone: People) -> None:
    alice, bob = everyone("alice", "bob")
    ids = [f"{bob.id}-{n:04}" for n in range(1000)]
    for users in (ids[:999], [ids[999], bob.id]):
        await alice.ask("POST", "/conversations", {"type": "group", "participantIds": users})
    (desk, tablet) = (await alice.connect(), await alice.connect())
    refusal = await desk.refused("presence:subscribe", {"userIds": ids[:201]})
    assert (refusal.code, [*refusal.details]) == ("VALIDATION_FAILED", ["userIds"])
    for n in range(0, 1000, 200):
        await desk.do("presence:subscribe", {"userIds": ids[n : n + 200]})
    # Neither repeats nor strangers count.
    await desk.do("presence:subscribe", {"userIds": [*ids[:100], *(f"x{n}" for n in range(100))]})
    refusal = await desk.refused("presence:subscribe", {"userIds": [ids[0], bob.id]})
    assert (refusal.code, [*refusal.details]) == ("VALIDATION_FAILED", ["userIds"])
    await tablet.do("presence:subscribe", {"userIds": [bob.id]})
    await desk.do("presence:unsubscribe", {"userIds": ids})
    assert await subscribe(desk, bob) == [never(bob)]


async def test_subscriptions_hold_while_redis_is_gone(
    mongo_url: str, own_redis: RedisServer, worker: str, tmp_path: Path
) -> None:
    database = f"{worker}-hold-{time.time_ns()}"
    async with (
        spread(mongo_url, own_redis.url, database, tmp_path, count=2, **SETTINGS) as nodes,
        aiohttp.ClientSession() as session,
    ):
        alice, bob, carol, dora, *rest = People(nodes.servers[0], session, nodes)(*"abcdef")
        talk = await alice.group(bob, carol, *rest)
        await alice.group(carol, dora)
        desks = await devices(alice, alice)
        for desk in desks:
            await subscribe(desk, bob, carol, dora)
        await own_redis.kill()
        for person in (carol, bob):
            path = f"/conversations/{talk['id']}/participants/{person.id}"
            await alice.ask("DELETE", path)
        # On whichever nodes: Alice hears of Carol and Dora, and not of Bob.
        for person in (bob, carol, dora):
            phone = await person.connect()
            if person is not bob:
                for desk in desks:
                    await desk.hears("user:online")
            await phone.close()
        # The nodes tell each other by the database, and in no order across users.
        for desk in desks:
            for person in (carol, dora):
                await becomes(desk, person, ["user:online", "user:offline"])
        await own_redis.start()
        await nodes.joined(own_redis)
        await presence(bob, bob.id, "offline")
        for desk in desks:
            await desk.do("ping")
            told = [received(desk, person) for person in (bob, carol, dora)]
            assert told == [[], *[["user:online", "user:offline"]] * 2]
            await desk.close()
        for server in nodes.servers:
            assert stores(await scrape(server))[0]["watched users"] == 0
