"""Presence by subscription. The subscribing sockets have left the room, so that nothing but the subscription sends them
the events of the conversation's participants."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.exposition import scrape, stores
from tests.support.people import Device, People, Person, presence
from tests.support.people_on_nodes import Spread
from tests.support.redises import RedisServer
from tests.support.shapes import A_TIME

# The tests' servers have a grace period of 0.5 s, and gather transitions for less than that.
SETTLED_S = 1.0


def never(person: Person) -> dict[str, Any]:
    return {"userId": person.id, "status": "offline", "lastSeen": None}


async def outside(person: Person, *talks: dict[str, Any]) -> Device:
    """A device that receives nothing of these conversations."""
    device = await person.connect()
    # A catch-up would bring the device back.
    await device.caught_up()
    for talk in talks:
        await device.do("room:leave", {"conversationId": talk["id"]})
    return device


async def subscribe(device: Device, *people: Person) -> list[Any]:
    asked = {"userIds": [person.id for person in people]}
    items: list[Any] = (await device.do("presence:subscribe", asked))["items"]
    return items


async def about(device: Device, person: Person) -> list[str]:
    """The presence events about the person that the device has received."""
    await device.caught_up()
    return received(device, person)


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


async def test_a_subscribed_socket_receives_each_transition_once(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talks = [await alice.group(bob, carol) for _ in range(3)]
    desk, tablet = await outside(alice, *talks), await outside(alice, *talks)
    laptop = await alice.connect()
    # In the rooms and subscribed, some users twice.
    for device in (desk, laptop):
        items = await subscribe(device, bob, alice, carol, bob)
        here = {"userId": alice.id, "status": "online", "lastSeen": A_TIME}
        assert items == [never(bob), here, never(carol)]
    assert await subscribe(desk, bob) == [never(bob)]

    phone = await bob.connect()
    assert await desk.hears("user:online") == {"userId": bob.id, "timestamp": A_TIME}
    (here,) = await subscribe(tablet, bob)
    assert here["status"] == "online"
    await phone.close()
    offline = {"userId": bob.id, "lastSeen": A_TIME, "timestamp": A_TIME}
    assert await desk.hears("user:offline") == offline
    assert await desk.do("presence:unsubscribe", {"userIds": [bob.id, "unknown"]}) == {}
    await come_and_go(alice, bob)
    both = ["user:online", "user:offline"]
    assert await about(desk, bob) == both
    assert await about(tablet, bob) == ["user:offline", *both]
    assert await about(laptop, bob) == both * 2
    # Users are not notified of themselves.
    assert await about(desk, alice) == []


async def test_a_stranger_looks_never_seen_and_sends_nothing(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    await come_and_go(stranger, stranger)
    desk = await outside(alice, talk)
    await stranger.connect()
    await presence(stranger, stranger.id, "online")
    items = (
        await desk.do("presence:subscribe", {"userIds": [stranger.id, bob.id, f"no-{bob.id}"]})
    )["items"]
    assert [item["lastSeen"] for item in items] == [None, None, None]
    assert items[0] == never(stranger)
    await come_and_go(alice, bob)
    # Neither does a conversation in common bring back a subscription that never was.
    talk = await stranger.direct(alice)
    await desk.hears("conversation:new")
    await desk.do("room:leave", {"conversationId": talk["id"]})
    for device in stranger.devices:
        await device.close()
    await presence(alice, stranger.id, "offline")
    assert await about(desk, stranger) == []
    assert await about(desk, bob) == ["user:online", "user:offline"]


async def test_a_subscription_ends_when_nothing_is_shared_any_more(people: People) -> None:
    alice, bob, carol, dora, erik = people("alice", "bob", "carol", "dora", "erik")
    first = await alice.group(bob, carol, dora, erik)
    second = await alice.group(bob, carol)
    third = await alice.group(carol)
    desk = await outside(alice, first, second, third)
    await subscribe(desk, bob, carol, dora, erik)
    path = f"/conversations/{first['id']}/participants"
    for person in (bob, carol, dora):
        await alice.ask("DELETE", f"{path}/{person.id}")
    # With Bob and Carol she shares another conversation.
    for person in (bob, carol):
        await come_and_go(alice, person)
        assert await about(desk, person) == ["user:online", "user:offline"]
    # Dora is a stranger now, and remains one to this socket when she comes back.
    await come_and_go(dora, dora)
    await alice.ask("POST", path, {"userIds": [dora.id]})
    await come_and_go(alice, dora)
    assert await about(desk, dora) == []
    # Alice leaves; another conversation is deleted.
    await alice.ask("DELETE", f"{path}/{alice.id}")
    await alice.ask("DELETE", f"/conversations/{second['id']}")
    for person in (bob, carol, erik):
        await come_and_go(person, person)
    assert [len(await about(desk, person)) for person in (bob, carol, erik)] == [2, 4, 0]


async def test_a_deleted_user_is_watched_no_more(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    desk, phone = await outside(alice, talk), await bob.connect()
    await presence(alice, bob.id, "online")
    await subscribe(desk, bob)
    assert (await people.master("DELETE", f"/users/{bob.id}"))[0] in (202, 204)
    await phone.gone.wait()
    await asyncio.sleep(SETTLED_S)
    assert "user:offline" not in await about(desk, bob)
    assert await subscribe(desk, bob) == [never(bob)]


async def test_a_socket_watches_at_most_1000_users(people: People) -> None:
    alice, bob = people("alice", "bob")
    crowd = [f"{bob.id}-{n:04}" for n in range(1000)]
    for users in (crowd[:999], [crowd[999], bob.id]):
        await alice.ask("POST", "/conversations", {"type": "group", "participantIds": users})
    (desk, tablet) = (await alice.connect(), await alice.connect())
    refusal = await desk.refused("presence:subscribe", {"userIds": crowd[:201]})
    assert (refusal.code, [*refusal.details]) == ("VALIDATION_FAILED", ["userIds"])
    for n in range(0, 1000, 200):
        await desk.do("presence:subscribe", {"userIds": crowd[n : n + 200]})
    # Neither repeats nor strangers count.
    await desk.do("presence:subscribe", {"userIds": [*crowd[:100], *(f"x{n}" for n in range(100))]})
    refusal = await desk.refused("presence:subscribe", {"userIds": [crowd[0], bob.id]})
    assert (refusal.code, [*refusal.details]) == ("VALIDATION_FAILED", ["userIds"])
    await tablet.do("presence:subscribe", {"userIds": [bob.id]})
    await desk.do("presence:unsubscribe", {"userIds": crowd})
    assert await subscribe(desk, bob) == [never(bob)]


async def test_subscriptions_hold_while_redis_is_gone(
    own_redis: RedisServer, own_nodes: Spread, everyone: People
) -> None:
    alice, bob, carol, dora = everyone("alice", "bob", "carol", "dora")
    talk = await alice.group(bob, carol)
    other = await alice.group(carol, dora)
    # On each node.
    desks = [await outside(alice, talk, other) for _ in own_nodes.servers]
    for desk in desks:
        await subscribe(desk, bob, carol, dora)
    await own_redis.kill()
    for person in (carol, bob):
        await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{person.id}")
    # Wherever they connect, Alice's sockets on all nodes hear of Carol and Dora, and none hears of Bob.
    for person in (bob, carol, dora):
        phone = await person.connect()
        if person is not bob:
            for desk in desks:
                await desk.hears(
                    "user:online", lambda payload, of=person: payload["userId"] == of.id
                )
        await phone.close()
    for desk in desks:
        await desk.hears("user:offline", lambda payload: payload["userId"] == dora.id)
    await own_redis.start()
    await own_nodes.joined(own_redis)
    await presence(bob, bob.id, "offline")
    for desk in desks:
        await desk.do("ping")
        assert [received(desk, person) for person in (bob, carol, dora)] == [
            [],
            ["user:online", "user:offline"],
            ["user:online", "user:offline"],
        ]
        await desk.close()
    for server in own_nodes.servers:
        assert stores(await scrape(server))[0]["watched users"] == 0
