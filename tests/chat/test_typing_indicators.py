"""Typing and recording: one event at the start and one at the end, for everyone else."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.people import People, devices
from tests.support.shapes import A_TIME


@pytest.mark.parametrize("kind", ["typing", "recording"])
async def test_everyone_but_the_socket_itself_is_notified_of_an_activity(
    people: People, kind: str
) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol)
    desk, tablet, phone, laptop, outside = await devices(alice, alice, bob, carol, stranger)
    here = {"conversationId": group["id"]}
    began = {**here, "userId": alice.id, "type": kind, "isActive": True, "timestamp": A_TIME}
    ended = {**began, "isActive": False}

    assert await desk.do(f"{kind}:start", here) == {}
    assert await desk.do(f"{kind}:start", here) == {}
    assert await desk.do(f"{kind}:stop", here) == {}
    assert await desk.do(f"{kind}:stop", here) == {}
    for device in (tablet, phone, laptop):
        assert await device.all_heard(f"user:{kind}") == [began, ended]
    assert await desk.all_heard(f"user:{kind}") == []
    assert await outside.all_heard(f"user:{kind}") == []
    assert (await outside.refused(f"{kind}:start", here)).code == "NOT_FOUND"
    assert (await outside.refused(f"{kind}:stop", here)).code == "NOT_FOUND"
    assert await phone.all_heard(f"user:{kind}") == [began, ended]


async def test_an_activity_times_out_after_its_last_start(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, tablet, phone = await devices(alice, alice, bob)
    here = {"conversationId": talk["id"]}
    await desk.do("typing:start", here)
    await tablet.do("recording:start", here)
    await asyncio.sleep(0.6)
    await desk.do("typing:start", here)
    again = asyncio.get_running_loop().time()
    # The tests' server times out after one second: the activity that was not restarted stops first.
    assert not (await phone.hears("user:recording", lambda payload: not payload["isActive"]))[
        "isActive"
    ]
    assert len(await phone.all_heard("user:typing")) == 1
    assert not (await phone.hears("user:typing", lambda payload: not payload["isActive"]))[
        "isActive"
    ]
    assert 0.9 < asyncio.get_running_loop().time() - again < 2
    assert len(await phone.all_heard("user:typing")) == 2


async def test_an_activity_stops_immediately_when_the_socket_disconnects(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, group = await alice.direct(bob), await alice.group(bob, carol)
    desk, phone, laptop = await devices(alice, bob, carol)
    await desk.do("typing:start", {"conversationId": talk["id"]})
    await desk.do("recording:start", {"conversationId": group["id"]})
    await laptop.hears("user:recording")
    await desk.close()
    await laptop.hears("user:recording", lambda payload: not payload["isActive"], within=0.5)
    typing = {"userId": alice.id, "type": "typing", "timestamp": A_TIME}
    recording = {**typing, "type": "recording"}
    assert await phone.all_heard("user:typing") == [
        {**typing, "conversationId": talk["id"], "isActive": active} for active in (True, False)
    ]
    for device in (phone, laptop):
        assert await device.all_heard("user:recording") == [
            {**recording, "conversationId": group["id"], "isActive": active}
            for active in (True, False)
        ]
    assert await laptop.all_heard("user:typing") == []


async def test_alice_types_as_long_as_one_of_her_devices_does(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, tablet, phone = await devices(alice, alice, bob)
    here = {"conversationId": talk["id"]}
    await desk.do("typing:start", here)
    await tablet.do("typing:start", here)
    await desk.do("typing:stop", here)
    assert [payload["isActive"] for payload in await phone.all_heard("user:typing")] == [True]
    await tablet.close()
    assert not (await phone.hears("user:typing", lambda payload: not payload["isActive"]))[
        "isActive"
    ]
    assert len(await phone.all_heard("user:typing")) == 2


async def test_typing_and_recording_are_separate_in_each_conversation(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk, group = await alice.direct(bob), await alice.group(bob)
    desk, phone = await devices(alice, bob)
    await desk.do("typing:start", {"conversationId": talk["id"]})
    await desk.do("recording:start", {"conversationId": talk["id"]})
    await desk.do("typing:start", {"conversationId": group["id"]})
    await desk.do("typing:stop", {"conversationId": talk["id"]})
    await phone.caught_up()
    assert [
        (name, payload["conversationId"] == group["id"], payload["isActive"])
        for name, payload in phone.heard
        if name.startswith("user:") and "isActive" in payload
    ] == [
        ("user:typing", False, True),
        ("user:recording", False, True),
        ("user:typing", True, True),
        ("user:typing", False, False),
    ]
