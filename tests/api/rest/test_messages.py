"""Messages over REST, and the events of sockets about them."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.people import People, devices
from tests.support.shapes import A_TIME, message


async def test_a_posted_message_reaches_every_device(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    desk, phone, outside = await devices(alice, bob, stranger)
    path = f"/conversations/{talk['id']}/messages"
    first = await alice.ask("POST", path, {"content": "Look"})
    picture = {
        "type": "image",
        "url": "https://files.example/a.png",
        "name": "a.png",
        "mimeType": "image/png",
        "size": 2**40,
        "width": 1,
        "height": 0,
        "thumbnailUrl": "https://files.example/t.png",
    }
    video = {"type": "video", "url": "https://files.example/v", "durationMs": 1}
    said = {
        "content": "здравствуй 👩‍👩‍👧 \0 \u202e",
        "attachments": [picture, video],
        "replyTo": first["id"],
        "clientMessageId": "c-1",
        "mentions": [bob.id],
        "metadata": {"$gt": "", "a.b": 1, "__proto__": None},
    }
    status, sent = await alice.request("POST", path, said)
    assert status == 201
    assert sent == message(conversationId=talk["id"], seq=2, rev=2, senderId=alice.id, **said)
    for device in (desk, phone):
        assert await device.all_heard("message:new") == [first, sent]
    assert await outside.all_heard("message:new") == []
    for person in (alice, bob):
        assert await person.ask("GET", f"/messages/{sent['id']}") == sent


async def test_a_repeated_client_message_id_returns_200_and_the_first_message(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk, other = await alice.direct(bob), await alice.group(bob)
    path = f"/conversations/{talk['id']}/messages"
    phone = await bob.connect()
    once = {"content": "Once", "clientMessageId": "once"}
    answers = await asyncio.gather(*[alice.request("POST", path, once) for _ in range(20)])
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    sent = answers[0][1]
    assert all(answer == sent for _, answer in answers)

    again = {**once, "content": "Changed"}
    assert await alice.request("POST", path, again) == (200, sent)
    assert await (await alice.connect()).say(talk, "Once", clientMessageId="once") == sent
    assert await phone.all_heard("message:new") == [sent]
    # The id counts per sender and conversation.
    status, his = await bob.request("POST", path, once)
    assert (status, his["seq"], his["senderId"]) == (201, 2, bob.id)
    status, _ = await alice.request("POST", f"/conversations/{other['id']}/messages", once)
    assert status == 201


async def test_a_message_is_edited_over_rest_by_its_sender_alone(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    group = await alice.group(bob)
    desk, phone = await devices(alice, bob)
    sent = await phone.say(group, "Helo")
    path = f"/messages/{sent['id']}"
    edited = await bob.ask("PATCH", path, {"content": "Hello"})
    assert edited == {**sent, "content": "Hello", "isEdited": True, "rev": 2, "updatedAt": A_TIME}
    news = {
        "messageId": sent["id"],
        "conversationId": group["id"],
        "content": "Hello",
        "isEdited": True,
        "updatedAt": edited["updatedAt"],
        "seq": 1,
        "rev": 2,
    }
    # The same text again changes nothing and sends no event.
    assert await bob.ask("PATCH", path, {"content": "Hello"}) == edited
    for who, code in ((alice, "FORBIDDEN"), (stranger, "NOT_FOUND")):
        assert (await who.refused("PATCH", path, {"content": "Mine"})).code == code
    for empty in ("", " \n"):
        refusal = await bob.refused("PATCH", path, {"content": empty})
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["content"])
    for device in (desk, phone):
        assert await device.all_heard("message:updated") == [news]
    assert await alice.ask("GET", path) == edited


async def test_a_message_is_deleted_over_rest_for_all_or_for_oneself(people: People) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol)
    desk, phone, tablet = await devices(alice, bob, bob)
    first, second = await phone.say(group, "One"), await phone.say(group, "Two")
    for who, code in ((carol, "FORBIDDEN"), (stranger, "NOT_FOUND")):
        assert (await who.refused("DELETE", f"/messages/{first['id']}")).code == code

    hidden = await bob.ask("DELETE", f"/messages/{second['id']}?scope=self")
    where = {"conversationId": group["id"], "deletedAt": A_TIME}
    assert hidden == {"messageId": second["id"], "scope": "self", **where}
    for device in (phone, tablet):
        assert await device.all_heard("message:deleted") == [{**hidden, "rev": 3}]
    assert await desk.all_heard("message:deleted") == []
    assert (await bob.ask("GET", f"/messages/{second['id']}"))["isDeleted"]
    assert await alice.ask("GET", f"/messages/{second['id']}") == second

    # The owner may delete a member's message for all. A second deletion sends no event.
    done = await alice.ask("DELETE", f"/messages/{first['id']}")
    assert done == {"messageId": first["id"], "scope": "everyone", **where}
    assert await bob.ask("DELETE", f"/messages/{first['id']}") == done
    (news,) = await desk.all_heard("message:deleted")
    assert news == {**done, "rev": 4}
    assert len(await phone.all_heard("message:deleted")) == 2
    left = message(
        id=first["id"],
        conversationId=group["id"],
        seq=1,
        rev=4,
        senderId=bob.id,
        content="",
        isDeleted=True,
        createdAt=first["createdAt"],
        updatedAt=news["deletedAt"],
        deletedAt=news["deletedAt"],
    )
    for who in (alice, bob, carol):
        assert await who.ask("GET", f"/messages/{first['id']}") == left
    refusal = await bob.refused("PATCH", f"/messages/{first['id']}", {"content": "Back"})
    assert (refusal.status, refusal.code) == (409, "CONFLICT")
    refusal = await bob.refused("POST", f"/messages/{first['id']}/reactions", {"emoji": "👍"})
    assert (refusal.status, refusal.code) == (409, "CONFLICT")


async def test_a_message_may_be_as_long_as_the_limit_and_no_longer(people: People) -> None:
    alice, bob = people("alice", "bob")
    path = f"/conversations/{(await alice.direct(bob))['id']}/messages"
    # Characters, not bytes.
    for longest in ("x" * 10_000, "😀" * 10_000):
        body = json.dumps({"content": longest}, ensure_ascii=False).encode()
        status, sent = await alice.request("POST", path, data=body)
        assert (status, sent["content"]) == (201, longest)
        status, answer = await alice.request("POST", path, data=body.replace(b'"}', b'x"}'))
        assert (status, answer["error"]["code"]) == (400, "VALIDATION_FAILED")
        assert list(answer["error"]["details"]) == ["content"]
    attachment = {"type": "file", "url": "https://files.example/a"}
    silent = await alice.ask("POST", path, {"content": "", "attachments": [attachment]})
    assert (silent["content"], silent["attachments"]) == ("", [attachment])
    assert (await alice.ask("PATCH", f"/messages/{silent['id']}", {"content": "Said"}))["isEdited"]
    assert (await alice.ask("PATCH", f"/messages/{silent['id']}", {"content": ""}))["content"] == ""
    ten = await alice.ask("POST", path, {"attachments": [attachment] * 10})
    assert len(ten["attachments"]) == 10
    assert len((await bob.ask("GET", path))["items"]) == 4


@pytest.mark.parametrize("change", ["unknown", "elsewhere"])
async def test_a_reply_must_be_to_a_message_of_the_same_conversation(
    people: People, change: str
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, other = await alice.direct(bob), await alice.direct(carol)
    elsewhere = await alice.ask("POST", f"/conversations/{other['id']}/messages", {"content": "x"})
    target = elsewhere["id"] if change == "elsewhere" else f"{talk['id']}-00000009"
    path = f"/conversations/{talk['id']}/messages"
    refusal = await alice.refused("POST", path, {"content": "Yes", "replyTo": target})
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["replyTo"])
    assert (await bob.ask("GET", path))["items"] == []


async def test_a_log_entry_that_is_not_a_message_cannot_be_reached(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    sent = await desk.say(talk, "One")
    await desk.do("reaction:add", {"messageId": sent["id"], "emoji": "👍"})
    entry = sent["id"][:-1] + "2"
    assert entry != sent["id"]
    for method, path, body in [
        ("GET", f"/messages/{entry}", None),
        ("PATCH", f"/messages/{entry}", {"content": "x"}),
        ("DELETE", f"/messages/{entry}", None),
        ("DELETE", f"/messages/{entry}?scope=self", None),
        ("POST", f"/messages/{entry}/reactions", {"emoji": "👍"}),
        ("GET", f"/messages/{entry}/read", None),
        ("PUT", f"/messages/{entry}/read", None),
    ]:
        assert (await bob.refused(method, path, body)).code == "NOT_FOUND", (method, path)
