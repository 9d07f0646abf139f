"""Online and offline events, for users who share a conversation."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.patience import PATIENCE_S
from tests.support.people import Device, People, Person, devices, presence
from tests.support.shapes import A_TIME

# The tests' server has a grace period of 0.5 s and gathers transitions for less than that.
SETTLED_S = 1.0


async def about(device: Device, person: Person) -> list[tuple[str, Any]]:
    """The presence events about the person that the device has received."""
    await device.caught_up()
    return [
        (name, payload)
        for name, payload in device.heard
        if name in ("user:online", "user:offline") and payload["userId"] == person.id
    ]


async def test_everyone_who_shares_a_conversation_is_notified_once_when_bob_comes_and_goes(
    people: People,
) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    for _ in range(3):
        await alice.group(bob, carol)
    await alice.direct(bob)
    await stranger.direct(carol)
    desk, tablet, laptop, outside = await devices(alice, alice, carol, stranger)

    phone = await bob.connect()
    online = {"userId": bob.id, "timestamp": A_TIME}
    for device in (desk, tablet, laptop):
        assert (
            await device.hears("user:online", lambda payload: payload["userId"] == bob.id) == online
        )
    here = {"userId": bob.id, "status": "online", "lastSeen": A_TIME}
    assert await alice.ask("GET", f"/users/{bob.id}/presence") == here

    await phone.close()
    offline = {"userId": bob.id, "lastSeen": A_TIME, "timestamp": A_TIME}
    heard = await desk.hears("user:offline")
    assert heard == offline
    # Last seen when the socket was closed, announced when the grace period was over.
    assert heard["lastSeen"] < heard["timestamp"]
    gone = {"userId": bob.id, "status": "offline", "lastSeen": heard["lastSeen"]}
    assert await alice.ask("GET", f"/users/{bob.id}/presence") == gone
    for device in (desk, tablet, laptop):
        assert await about(device, bob) == [("user:online", online), ("user:offline", heard)]
    assert await about(outside, bob) == []


async def test_a_page_reload_is_silent(people: People) -> None:
    alice, bob = people("alice", "bob")
    await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    await desk.hears("user:online", lambda payload: payload["userId"] == bob.id)
    for _ in range(3):
        await phone.close()
        phone = await bob.connect()
    await asyncio.sleep(SETTLED_S)
    assert len(await about(desk, bob)) == 1
    here = await alice.ask("GET", f"/users/{bob.id}/presence")
    assert here["status"] == "online"


async def test_bob_is_online_as_long_as_one_of_his_devices_is(people: People) -> None:
    alice, bob = people("alice", "bob")
    await alice.direct(bob)
    desk, phone, poll = await alice.connect(), await bob.connect(), await bob.connect("polling")
    await desk.hears("user:online", lambda payload: payload["userId"] == bob.id)
    await phone.close()
    await asyncio.sleep(SETTLED_S)
    assert len(await about(desk, bob)) == 1
    # Users are not notified of themselves.
    assert await about(poll, bob) == []
    await poll.close()
    await desk.hears("user:offline", lambda payload: payload["userId"] == bob.id)
    assert [name for name, _ in await about(desk, bob)] == ["user:online", "user:offline"]


async def test_activity_moves_last_seen(people: People) -> None:
    alice, bob = people("alice", "bob")
    await alice.direct(bob)
    phone = await bob.connect()
    first = (await presence(alice, bob.id, "online"))["lastSeen"]
    await asyncio.sleep(0.01)
    pinged = await phone.do("activity:ping", {})
    assert pinged == {"timestamp": A_TIME}
    # Other nodes know it in a moment, or within ten seconds after several activities.
    async with asyncio.timeout(PATIENCE_S):
        while True:
            seen = (await presence(alice, bob.id, "online"))["lastSeen"]
            if seen != first:
                break
            await asyncio.sleep(0.05)
    assert first < seen <= pinged["timestamp"]


async def test_a_removed_user_is_not_notified_of_the_others(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, laptop = await devices(alice, carol)
    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{carol.id}")
    await bob.connect()
    await desk.hears("user:online", lambda payload: payload["userId"] == bob.id)
    assert await about(laptop, bob) == []


async def test_users_who_connect_at_the_same_time_are_all_announced(people: People) -> None:
    alice, *others = people("alice", *[f"user-{number}" for number in range(10)])
    await alice.group(*others)
    desk = await alice.connect()
    phones = await devices(*others)
    for _ in others:
        await desk.hears("user:online")
    await asyncio.gather(*[phone.close() for phone in phones])
    for _ in others:
        await desk.hears("user:offline")
    for name in ("user:online", "user:offline"):
        heard = [payload["userId"] for payload in await desk.all_heard(name)]
        assert sorted(heard) == sorted(person.id for person in others)
