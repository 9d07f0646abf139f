"""Order and completeness of the events that a device receives live and by sync."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.people import Device, People, devices

OF_REV = {
    "message:new",
    "message:updated",
    "message:deleted",
    "reaction:added",
    "reaction:removed",
}


async def test_everyone_receives_concurrent_messages_in_the_same_order(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, tablet, phone, laptop = await devices(alice, alice, bob, carol)
    poll, upgraded = await bob.connect("polling"), await carol.connect("upgrade")
    speakers = {"desk": desk, "tablet": tablet, "phone": phone, "poll": poll}

    await asyncio.gather(
        *[
            device.say(group, f"{name} {number}")
            for number in range(40)
            for name, device in speakers.items()
        ]
    )
    heard = await laptop.all_heard("message:new")
    assert [message["seq"] for message in heard] == list(range(1, 161))
    for device in (desk, tablet, phone, poll, upgraded):
        assert await device.all_heard("message:new") == heard
    for name in speakers:
        said = [
            message["content"] for message in heard if message["content"].startswith(f"{name} ")
        ]
        assert said == [f"{name} {number}" for number in range(40)]


async def test_one_senders_messages_keep_their_order_whatever_is_in_them(people: People) -> None:
    """The target of a reply is read before the reply is stored. Later messages wait for the reply."""
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    first = await desk.say(talk, "0")
    replies: list[dict[str, Any]] = [{"replyTo": first["id"]}, {}, {}]
    await asyncio.gather(
        *[desk.say(talk, str(number), **replies[number % 3]) for number in range(1, 31)]
    )
    heard = await phone.all_heard("message:new")
    assert [message["content"] for message in heard] == [str(number) for number in range(31)]


async def test_changes_reach_a_device_in_the_order_of_their_rev(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    poll = await bob.connect("polling")
    sent = await asyncio.gather(*[desk.say(talk, str(number)) for number in range(8)])
    ids = [message["id"] for message in sent]
    await asyncio.gather(
        *[phone.do("reaction:add", {"messageId": message_id, "emoji": "👍"}) for message_id in ids],
        *[
            desk.do("message:edit", {"messageId": message_id, "content": "edited"})
            for message_id in ids
        ],
        *[desk.say(talk, f"more {number}") for number in range(8)],
        *[
            phone.do("reaction:remove", {"messageId": message_id, "emoji": "👍"})
            for message_id in ids[:4]
        ],
    )
    await asyncio.gather(
        *[desk.do("message:delete", {"messageId": message_id}) for message_id in ids[4:]]
    )
    for device in (desk, phone, poll):
        await device.caught_up()
        revs = [payload["rev"] for name, payload in device.heard if name in OF_REV]
        assert revs == list(range(1, 41))


async def test_sync_returns_what_a_device_missed(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    sent = [await desk.say(talk, str(number)) for number in range(5)]
    edited = await desk.do("message:edit", {"messageId": sent[0]["id"], "content": "zero"})
    await desk.do("reaction:add", {"messageId": sent[3]["id"], "emoji": "👍"})
    reacted = await alice.ask("GET", f"/messages/{sent[3]['id']}")
    assert (edited["rev"], reacted["rev"]) == (6, 7)

    phone = await bob.connect()
    position = {"conversationId": talk["id"], "hasMore": False, "lastSeq": 5, "lastRev": 7}

    async def sync(**asked: Any) -> Any:
        return await phone.do("messages:sync", {"conversationId": talk["id"], **asked})

    newer = [reacted, sent[4]]
    assert await sync(lastMessageId=sent[2]["id"]) == {**position, "messages": newer}
    assert await sync(afterSeq=3) == {**position, "messages": newer}
    # By rev, also messages that changed since, as they are now, in the order of the changes.
    assert await sync(afterRev=3) == {**position, "messages": [sent[4], edited, reacted]}
    assert await sync(afterRev=7) == {**position, "messages": []}
    assert await sync(afterSeq=99) == {**position, "messages": []}
    everything = [edited, sent[1], sent[2], reacted, sent[4]]
    assert await sync(afterSeq=0) == {**position, "messages": everything}
    assert await sync(lastMessageId=None) == {**position, "messages": everything}

    page = await sync(afterSeq=0, limit=2)
    assert page == {**position, "messages": everything[:2], "hasMore": True}
    page = await sync(afterSeq=2, limit=3)
    assert page == {**position, "messages": everything[2:]}
    page = await sync(afterRev=0, limit=3)
    assert page == {**position, "messages": [sent[1], sent[2], sent[4]], "hasMore": True}


async def test_sync_without_a_callback_is_answered_by_an_event_for_this_socket(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone, laptop = await devices(alice, bob, bob)
    sent = await desk.say(talk, "Hello")
    await phone.client.emit("messages:sync", {"conversationId": talk["id"], "afterSeq": 0})
    assert await phone.hears("messages:sync") == {
        "conversationId": talk["id"],
        "messages": [sent],
        "hasMore": False,
        "lastSeq": 1,
        "lastRev": 1,
    }
    assert await laptop.all_heard("messages:sync") == []
    assert await desk.all_heard("messages:sync") == []


async def test_a_sync_right_after_sends_has_them_in_it(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    sends = [asyncio.ensure_future(desk.say(talk, str(number))) for number in range(10)]
    await asyncio.sleep(0)  # sent, but not acknowledged yet
    synced = await desk.do("messages:sync", {"conversationId": talk["id"], "afterSeq": 0})
    assert synced["messages"] == await asyncio.gather(*sends)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "lastMessageId"),
        ({"afterSeq": 1, "afterRev": 1}, "afterRev"),
        ({"afterSeq": -1}, "afterSeq"),
        ({"afterRev": "1"}, "afterRev"),
        ({"afterSeq": 0, "limit": 201}, "limit"),
        ({"afterSeq": 0, "limit": 0}, "limit"),
        ({"lastMessageId": "nothing-of-this-conversation"}, "lastMessageId"),
        ({"afterSeq": 0, "before": 1}, "before"),
    ],
)
async def test_sync_from_an_invalid_position_is_refused(
    people: People, asked: dict[str, Any], field: str
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk: Device = await alice.connect()
    await desk.say(talk, "Hello")
    refusal = await desk.refused("messages:sync", {"conversationId": talk["id"], **asked})
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", [field])
