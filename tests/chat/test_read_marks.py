"""Read marks over sockets: the users who are notified, and the marks that are not announced."""

from __future__ import annotations

from tests.support.people import People, devices
from tests.support.shapes import A_TIME


async def test_alice_is_notified_that_bob_read_her_message(people: People) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol)
    desk, phone, tablet, laptop, outside = await devices(alice, bob, bob, carol, stranger)
    sent = await desk.say(group, "Hello")
    await desk.say(group, "Are you there?")

    read = await phone.do("message:read", {"messageId": sent["id"]})
    assert read == {
        "messageId": sent["id"],
        "conversationId": group["id"],
        "userId": bob.id,
        "readAt": A_TIME,
    }
    # A repeat, also on another device, keeps the time of the first mark and is not announced.
    assert await phone.do("message:read", {"messageId": sent["id"]}) == read
    assert await tablet.do("message:read", {"messageId": sent["id"]}) == read
    assert await bob.ask("PUT", f"/messages/{sent['id']}/read") == read
    for device in (desk, phone, tablet, laptop):
        assert await device.all_heard("message:read") == [read]
    assert (await outside.refused("message:read", {"messageId": sent["id"]})).code == "NOT_FOUND"
    assert await outside.all_heard("message:read") == []

    readers = await alice.ask("GET", f"/messages/{sent['id']}/read")
    assert readers["items"] == [{"userId": bob.id, "readAt": read["readAt"]}]
    unread = await bob.ask("GET", f"/conversations/{group['id']}/unread-count")
    assert unread == {"conversationId": group["id"], "count": 1}


async def test_reading_your_own_message_is_not_announced(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    sent = await desk.say(talk, "Hello")
    read = await desk.do("message:read", {"messageId": sent["id"]})
    assert (read["userId"], read["messageId"]) == (alice.id, sent["id"])
    assert await phone.all_heard("message:read") == []
    assert await alice.ask("GET", f"/messages/{sent['id']}/read") == {
        "items": [],
        "nextCursor": None,
    }


async def test_a_conversation_is_read_up_to_a_message_or_to_the_newest(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    desk, phone, tablet, outside = await devices(alice, bob, bob, stranger)
    sent = [await desk.say(talk, str(number)) for number in range(5)]
    await phone.do("message:read", {"messageId": sent[1]["id"]})

    up_to = {"conversationId": talk["id"], "upToMessageId": sent[2]["id"]}
    first = await phone.do("conversation:read", up_to)
    assert first == {**up_to, "userId": bob.id, "count": 2, "readAt": A_TIME}
    again = await tablet.do("conversation:read", up_to)
    assert again == {**first, "count": 0, "readAt": A_TIME}
    back = {**up_to, "upToMessageId": sent[0]["id"]}
    assert (await tablet.do("conversation:read", back))["count"] == 0
    rest = await tablet.do("conversation:read", {"conversationId": talk["id"]})
    assert rest == {**first, "upToMessageId": sent[4]["id"], "count": 2, "readAt": A_TIME}
    over_rest = await bob.ask("PUT", f"/conversations/{talk['id']}/read", {})
    assert over_rest["count"] == 0

    for device in (desk, phone, tablet):
        assert await device.all_heard("conversation:read") == [first, rest]
        assert len(await device.all_heard("message:read")) == 1
    refusal = await outside.refused("conversation:read", {"conversationId": talk["id"]})
    assert refusal.code == "NOT_FOUND"
    assert await outside.all_heard("conversation:read") == []


async def test_there_is_nothing_to_read_in_an_empty_conversation(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    read = await phone.do("conversation:read", {"conversationId": talk["id"]})
    assert (read["upToMessageId"], read["count"]) == (None, 0)
    elsewhere = await alice.ask(
        "POST", f"/conversations/{(await alice.group(bob))['id']}/messages", {"content": "x"}
    )
    wrong = {"conversationId": talk["id"], "upToMessageId": elsewhere["id"]}
    refusal = await phone.refused("conversation:read", wrong)
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["upToMessageId"])
    assert await desk.all_heard("conversation:read") == []


async def test_deleted_messages_are_not_unread_and_own_ones_never_were(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    sent = [await desk.say(talk, str(number)) for number in range(4)]
    await phone.say(talk, "Mine")
    await desk.do("message:delete", {"messageId": sent[0]["id"]})
    await phone.do("message:delete", {"messageId": sent[1]["id"], "scope": "self"})
    read = await phone.do("conversation:read", {"conversationId": talk["id"]})
    assert read["count"] == 2
    assert await desk.all_heard("conversation:read") == [read]
