"""Conversations and their participants: the events that sockets receive, once they are in the room."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.people import People, devices
from tests.support.shapes import A_TIME, AN_ID, message, participant, seen_by


async def test_a_new_conversation_is_announced_to_its_participants_who_are_already_in_its_room(
    people: People,
) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    desk, tablet, phone, outside = await devices(alice, alice, bob, stranger)
    laptop = await carol.connect("polling")

    group = await alice.group(bob, carol, name="Trip", metadata={"to": "Rome"})
    # Sent immediately: no device has had the time to join the room by a request.
    sent = await alice.ask("POST", f"/conversations/{group['id']}/messages", {"content": "Hi!"})
    told = {
        "id": AN_ID,
        "type": "group",
        "name": "Trip",
        "avatarUrl": None,
        "metadata": {"to": "Rome"},
        "createdBy": alice.id,
        "createdAt": A_TIME,
        "updatedAt": A_TIME,
        "lastSeq": 0,
        "lastRev": 0,
        "lastMessage": None,
        "participantCount": 3,
        "isLarge": False,
        "participants": [
            participant(alice.id, "owner"),
            *sorted([participant(bob.id), participant(carol.id)], key=_user),
        ],
    }
    for device in (desk, tablet, phone, laptop):
        assert await device.all_heard("conversation:new") == [told]
        assert await device.all_heard("message:new") == [sent]
        assert [name for name, _ in device.heard if name != "user:online"] == [
            "connected",
            "conversation:new",
            "message:new",
        ]
    await outside.caught_up()
    assert [name for name, _ in outside.heard] == ["connected"]


def _user(payload: dict[str, Any]) -> str:
    return str(payload["userId"])


@pytest.mark.parametrize("kind", ["direct", "private"])
async def test_a_conversation_that_exists_is_not_announced_again(people: People, kind: str) -> None:
    alice, bob = people("alice", "bob")
    phone = await bob.connect()
    named = {"userId": bob.id} if kind == "direct" else {"userIds": [bob.id]}
    first = await alice.ask("POST", f"/conversations/{kind}", named)
    again = await alice.ask("POST", f"/conversations/{kind}", named)
    assert first["id"] == again["id"]
    assert await phone.all_heard("conversation:new") == [first]


async def test_carol_is_added_and_receives_events_from_then_on(people: People) -> None:
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    group = await alice.group(bob)
    desk, phone, laptop, tablet = await devices(alice, bob, carol, carol)
    await desk.say(group, "Before")
    view = await alice.ask(
        "POST", f"/conversations/{group['id']}/participants", {"userIds": [carol.id, dave.id]}
    )
    sent = await phone.say(group, "Welcome")

    assert view["participantCount"] == 4
    assert view["lastMessage"]["content"] == "Before"
    added = [
        {"conversationId": group["id"], "userId": person.id, "timestamp": A_TIME}
        for person in (carol, dave)
    ]
    for device in (laptop, tablet):
        assert await device.all_heard("conversation:joined") == [view]
        assert await device.all_heard("message:new") == [sent]
    for device in (desk, phone, laptop, tablet):
        assert await device.all_heard("participant:added") == added
        assert await device.all_heard("conversation:new") == []
    for device in (desk, phone):
        assert await device.all_heard("conversation:joined") == []
    # She may send immediately, too.
    assert await desk.hears("message:new", lambda payload: payload["seq"] == 2) == sent
    thanks = await laptop.say(group, "Thanks")
    assert await desk.hears("message:new") == thanks

    # A user who already participates is not added again.
    again = {"userIds": [carol.id]}
    await alice.ask("POST", f"/conversations/{group['id']}/participants", again)
    assert await desk.all_heard("participant:added") == added
    assert await laptop.all_heard("conversation:joined") == [view]


async def test_carol_is_removed_and_receives_nothing_from_then_on(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group, other = await alice.group(bob, carol), await alice.group(carol)
    desk, phone, laptop, tablet = await devices(alice, bob, carol, carol)
    poll = await carol.connect("polling")
    first = await desk.say(group, "Before")
    for device in (laptop, tablet, poll):  # each on a different node
        assert await device.hears("message:new") == first
    await laptop.do(
        "room:leave", {"conversationId": group["id"]}
    )  # it is notified of the removal anyway

    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{carol.id}")
    await desk.say(group, "After")
    await phone.do("reaction:add", {"messageId": first["id"], "emoji": "👍"})
    await desk.do("message:edit", {"messageId": first["id"], "content": "Edited"})
    await phone.do("message:read", {"messageId": first["id"]})
    await phone.do("typing:start", {"conversationId": group["id"]})
    await desk.do("message:delete", {"messageId": first["id"]})
    await alice.ask("PATCH", f"/conversations/{group['id']}", {"name": "Without Carol"})

    removed = {"conversationId": group["id"], "userId": carol.id, "timestamp": A_TIME}
    for device in (desk, phone):
        assert await device.all_heard("participant:removed") == [removed]
        assert await device.all_heard("conversation:removed") == []
    for device in (laptop, tablet, poll):
        await device.caught_up()
        news = [event for event in device.heard if event[0] not in ("connected", "user:online")]
        assert news == [
            ("message:new", first),
            ("conversation:removed", {"conversationId": group["id"]}),
        ]
    # Her other conversations are not affected.
    sent = await desk.say(other, "Still here?")
    assert await laptop.hears("message:new", lambda payload: payload["id"] == sent["id"]) == sent


async def test_bob_leaves_and_the_owner_is_succeeded(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, phone, laptop = await devices(alice, bob, carol)
    path = f"/conversations/{group['id']}/participants"
    await bob.ask("DELETE", f"{path}/{bob.id}")
    left = {"conversationId": group["id"], "userId": bob.id, "timestamp": A_TIME}
    for device in (desk, laptop):
        assert await device.all_heard("participant:removed") == [left]
        assert await device.all_heard("conversation:updated") == []
    gone = [{"conversationId": group["id"]}]
    assert await phone.all_heard("conversation:removed") == gone
    assert await phone.all_heard("participant:removed") == []

    await alice.ask("DELETE", f"{path}/{alice.id}")
    assert await desk.all_heard("conversation:removed") == gone
    assert len(await laptop.all_heard("participant:removed")) == 2
    (updated,) = await laptop.all_heard("conversation:updated")
    assert updated["participants"] == [participant(carol.id, "owner")]
    assert await desk.all_heard("conversation:updated") == []


async def test_a_change_of_the_conversation_is_announced_to_all_its_participants(
    people: People,
) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    group = await alice.group(bob)
    desk, phone, outside = await devices(alice, bob, stranger)
    sent = await desk.say(group, "Hello")
    path = f"/conversations/{group['id']}"
    renamed = await alice.ask("PATCH", path, {"name": "Trip", "metadata": {"to": "Rome"}})
    assert renamed == {
        **group,
        "name": "Trip",
        "metadata": {"to": "Rome"},
        "updatedAt": A_TIME,
        "lastSeq": 1,
        "lastRev": 1,
        "lastMessage": message(
            conversationId=group["id"], seq=1, rev=1, senderId=alice.id, content="Hello"
        ),
    }
    assert renamed["lastMessage"] == sent
    await alice.ask("PATCH", f"{path}/participants/{bob.id}", {"role": "admin"})
    for device in (desk, phone):
        first, second = await device.all_heard("conversation:updated")
        assert first == renamed
        assert participant(bob.id, "admin") in second["participants"]
    assert (await bob.ask("GET", path)) == seen_by(second, bob.id)
    assert await outside.all_heard("conversation:updated") == []
    assert (await stranger.refused("PATCH", path, {"name": "Mine"})).code == "NOT_FOUND"
    assert len(await desk.all_heard("conversation:updated")) == 2


async def test_a_deleted_conversation_is_deleted_for_all(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    group = await alice.group(bob)
    desk, phone, outside = await devices(alice, bob, stranger)
    sent = await desk.say(group, "Hello")
    await alice.ask("DELETE", f"/conversations/{group['id']}")
    for device in (desk, phone):
        assert await device.all_heard("conversation:removed") == [{"conversationId": group["id"]}]
        assert await device.all_heard("participant:removed") == []
        refusal = await device.refused(
            "message:send", {"conversationId": group["id"], "content": "Anyone?"}
        )
        assert refusal.code == "NOT_FOUND"
        refusal = await device.refused("reaction:add", {"messageId": sent["id"], "emoji": "👍"})
        assert refusal.code == "NOT_FOUND"
    assert await outside.all_heard("conversation:removed") == []


async def test_a_device_may_leave_a_room_and_come_back(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone, tablet = await devices(alice, bob, bob)
    here = {"conversationId": talk["id"]}
    assert await phone.do("room:leave", here) == here
    assert await phone.do("room:leave", here) == here
    first = await desk.say(talk, "To the tablet")
    await desk.do("typing:start", here)
    # Only this device is silent, and the user is still a member.
    assert await tablet.hears("message:new") == first
    mine = await phone.say(talk, "I can still speak")
    await phone.do("reaction:add", {"messageId": first["id"], "emoji": "👍"})
    assert await phone.do("room:join", here) == here
    assert await phone.do("room:join", here) == here
    second = await desk.say(talk, "To both")
    assert await phone.all_heard("message:new") == [second]
    assert await phone.all_heard("user:typing") == []
    assert await phone.all_heard("reaction:added") == []
    assert await tablet.all_heard("message:new") == [first, mine, second]
    again = await bob.connect()
    assert again.heard[0][1]["rooms"] == [talk["id"]]
