"""Sending, editing and deleting over sockets: the users who receive each event, and those who must not."""

from __future__ import annotations

import asyncio
from typing import Any

from chatserver import json_codec
from tests.support.people import People, devices
from tests.support.shapes import A_TIME, message


async def test_a_message_reaches_every_device_of_the_conversation_and_nobody_else(
    people: People,
) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol)
    await stranger.direct(carol)  # shares a conversation with carol, but is not in this one
    desk, tablet, phone, laptop = await devices(alice, alice, bob, carol)
    poll, outside = await bob.connect("polling"), await stranger.connect()

    sent = await desk.say(group, "Hello 👋 здравствуй")
    assert sent == message(
        conversationId=group["id"],
        seq=1,
        rev=1,
        senderId=alice.id,
        content="Hello 👋 здравствуй",
        updatedAt=sent["createdAt"],
    )
    for device in (desk, tablet, phone, poll, laptop):
        assert await device.all_heard("message:new") == [sent]
    assert await outside.all_heard("message:new") == []


async def test_a_message_keeps_everything_that_it_was_sent_with(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    first = await desk.say(talk, "Look:")
    picture = {
        "type": "image",
        "url": "https://files.example/1.png",
        "name": "1.png",
        "mimeType": "image/png",
        "size": 12345,
        "width": 640,
        "height": 480,
        "thumbnailUrl": "https://files.example/1-small.png",
    }
    voice = {"type": "audio", "url": "https://files.example/2.ogg", "durationMs": 1500}
    known: dict[str, Any] = {
        "attachments": [picture, voice],
        "replyTo": first["id"],
        "mentions": [bob.id],
        "metadata": {"colour": "red", "stars": 5, "half": 0.5, "draft": False, "$gt": None},
        "clientMessageId": "my-1",
    }
    sent = await desk.say(talk, "", **known)
    assert sent == message(
        conversationId=talk["id"], seq=2, rev=2, senderId=alice.id, content="", **known
    )
    assert await phone.hears("message:new", lambda payload: payload["seq"] == 2) == sent
    assert await bob.ask("GET", f"/messages/{sent['id']}") == sent


async def test_a_repeated_client_message_id_is_the_same_message_announced_once(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk, group = await alice.direct(bob), await alice.group(bob)
    desk, tablet, phone = await devices(alice, alice, bob)
    sent = await desk.say(talk, "Once", clientMessageId="c-1")
    again = await asyncio.gather(
        *[device.say(talk, "Once", clientMessageId="c-1") for device in (desk, tablet) * 5]
    )
    assert again == [sent] * 10
    assert await desk.say(talk, "Something else", clientMessageId="c-1") == sent
    over_rest = {"content": "Once", "clientMessageId": "c-1"}
    assert await alice.ask("POST", f"/conversations/{talk['id']}/messages", over_rest) == sent
    assert await phone.all_heard("message:new") == [sent]

    elsewhere = await desk.say(group, "Once", clientMessageId="c-1")
    by_bob = await phone.say(talk, "Once", clientMessageId="c-1")
    assert len({sent["id"], elsewhere["id"], by_bob["id"]}) == 3
    assert (elsewhere["seq"], by_bob["seq"]) == (1, 2)


async def test_bob_receives_the_edit_of_a_message(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    desk, tablet, phone, outside = await devices(alice, alice, bob, stranger)
    sent = await desk.say(talk, "Helo")

    edited = await desk.do("message:edit", {"messageId": sent["id"], "content": "Hello"})
    assert edited == {
        **sent,
        "content": "Hello",
        "isEdited": True,
        "rev": 2,
        "updatedAt": A_TIME,
    }
    told = {
        "messageId": sent["id"],
        "conversationId": talk["id"],
        "content": "Hello",
        "isEdited": True,
        "updatedAt": edited["updatedAt"],
        "seq": 1,
        "rev": 2,
    }
    for device in (desk, tablet, phone):
        assert await device.all_heard("message:updated") == [told]

    same = await desk.do("message:edit", {"messageId": sent["id"], "content": "Hello"})
    assert same == edited
    refusal = await phone.refused("message:edit", {"messageId": sent["id"], "content": "Mine"})
    assert refusal.code == "FORBIDDEN"
    refusal = await outside.refused("message:edit", {"messageId": sent["id"], "content": "Mine"})
    assert refusal.code == "NOT_FOUND"
    assert await phone.all_heard("message:updated") == [told]
    assert await outside.all_heard("message:updated") == []

    await alice.ask("PATCH", f"/messages/{sent['id']}", {"content": "Hello!"})
    news = await phone.hears("message:updated", lambda payload: payload["rev"] == 3)
    assert news == {**told, "content": "Hello!", "rev": 3, "updatedAt": A_TIME}


async def test_a_deleted_message_keeps_its_place_and_nothing_else(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    desk, phone, outside = await devices(alice, bob, stranger)
    sent = await desk.say(talk, "Secret", mentions=[bob.id], metadata={"a": 1})
    await phone.do("reaction:add", {"messageId": sent["id"], "emoji": "👍"})
    last = await desk.say(talk, "After it")

    assert (await phone.refused("message:delete", {"messageId": sent["id"]})).code == "FORBIDDEN"
    assert (await outside.refused("message:delete", {"messageId": sent["id"]})).code == "NOT_FOUND"
    done = await desk.do("message:delete", {"messageId": sent["id"]})
    assert done == {
        "messageId": sent["id"],
        "conversationId": talk["id"],
        "deletedAt": A_TIME,
        "scope": "everyone",
    }
    for device in (desk, phone):
        assert await device.all_heard("message:deleted") == [{**done, "rev": 4}]
    assert await desk.do("message:delete", {"messageId": sent["id"], "scope": "everyone"}) == done
    assert len(await phone.all_heard("message:deleted")) == 1
    assert await outside.all_heard("message:deleted") == []

    edit = await desk.refused("message:edit", {"messageId": sent["id"], "content": "Back"})
    assert edit.code == "CONFLICT"
    react = await phone.refused("reaction:add", {"messageId": sent["id"], "emoji": "👍"})
    assert react.code == "CONFLICT"
    left = message(
        id=sent["id"],
        conversationId=talk["id"],
        seq=1,
        rev=4,
        senderId=alice.id,
        content="",
        isDeleted=True,
        createdAt=sent["createdAt"],
        updatedAt=done["deletedAt"],
        deletedAt=done["deletedAt"],
    )
    history = await bob.ask("GET", f"/conversations/{talk['id']}/messages")
    assert history == {"items": [left, last], "hasMore": False}


async def test_an_admin_deletes_the_message_of_a_member_but_cannot_edit_it(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    path = f"/conversations/{group['id']}/participants/{bob.id}"
    await alice.ask("PATCH", path, {"role": "admin"})
    desk, phone = await devices(bob, carol)
    sent = await phone.say(group, "Spam")
    edit = await desk.refused("message:edit", {"messageId": sent["id"], "content": "Ham"})
    assert edit.code == "FORBIDDEN"
    done = await desk.do("message:delete", {"messageId": sent["id"]})
    assert await phone.hears("message:deleted") == {**done, "rev": 2}


async def test_a_message_that_bob_hides_is_gone_only_on_his_devices(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone, laptop = await devices(alice, bob, bob)
    sent = await desk.say(talk, "Ugly")

    hide = {"messageId": sent["id"], "scope": "self"}
    done = await phone.do("message:delete", hide)
    assert done == {
        "messageId": sent["id"],
        "conversationId": talk["id"],
        "deletedAt": A_TIME,
        "scope": "self",
    }
    for device in (phone, laptop):
        assert await device.all_heard("message:deleted") == [{**done, "rev": 2}]
    assert (await phone.do("message:delete", hide)) == done
    assert len(await laptop.all_heard("message:deleted")) == 1
    assert await desk.all_heard("message:deleted") == []

    assert await alice.ask("GET", f"/messages/{sent['id']}") == sent
    hidden = await bob.ask("GET", f"/messages/{sent['id']}")
    assert (hidden["content"], hidden["isDeleted"]) == ("", True)
    # Changes by others do not bring it back.
    await desk.do("message:edit", {"messageId": sent["id"], "content": "Prettier"})
    assert (await bob.ask("GET", f"/messages/{sent['id']}"))["content"] == ""


async def test_a_message_that_is_not_allowed_is_not_announced(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, other = await alice.direct(bob), await alice.direct(carol)
    desk, phone = await devices(alice, bob)
    elsewhere = await desk.say(other, "Elsewhere")
    attachment = {"type": "file", "url": "https://files.example/a"}
    for wrong, field in [
        ({"content": ""}, "content"),
        ({"content": " \n"}, "content"),
        ({"content": "x" * 10_001}, "content"),
        ({"content": "x", "attachments": [attachment] * 11}, "attachments"),
        ({"content": "x", "attachments": [{**attachment, "url": "http://a"}]}, "attachments.0.url"),
        ({"content": "x", "replyTo": elsewhere["id"]}, "replyTo"),
        ({"content": "x", "clientMessageId": "c" * 65}, "clientMessageId"),
        ({"content": "x", "clientMessageId": ""}, "clientMessageId"),
        ({"content": "x", "metadata": {"deep": {"er": 1}}}, "metadata"),
        ({"content": "x", "metadata": {"long": "m" * 2048}}, "metadata"),
        ({"content": "x", "colour": "red"}, "colour"),
    ]:
        refusal = await desk.refused("message:send", {"conversationId": talk["id"], **wrong})
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", [field])
    longest = await desk.say(talk, "x" * 10_000)
    assert await phone.all_heard("message:new") == [longest]
    assert longest["seq"] == 1


async def test_the_messages_of_a_page_take_at_most_512_kib_of_json(people: People) -> None:
    """Everything counts: attachments, metadata, and the width of characters."""
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    heavy = {
        "content": "🎉" * 5_000,
        "metadata": {"note": "é" * 900},
        "attachments": [
            {"url": f"https://files.example/{n}?{'s' * 4_000}", "type": "image"} for n in range(5)
        ],
    }
    path = f"/conversations/{talk['id']}/messages"
    sent = [(await alice.ask("POST", path, heavy))["id"] for _ in range(30)]

    read: list[Any] = []
    pages = 0
    while True:
        before = f"&before={read[0]['id']}" if read else ""
        page = await bob.ask("GET", f"{path}?limit=100{before}")
        assert len(json_codec.encode(page["items"])) <= 512 * 1024
        read[:0] = page["items"]
        pages += 1
        if not page["hasMore"]:
            break
    assert [message["id"] for message in read] == sent
    assert 3 <= pages <= 4, "each page is nearly full"

    (phone,) = await devices(bob)
    await phone.do("message:delete", {"messageId": sent[0], "scope": "self"})
    synced: dict[str, Any] = {}
    rev, more = 0, True
    while more:
        page = await phone.do("messages:sync", {"conversationId": talk["id"], "afterRev": rev})
        assert len(json_codec.encode(page["messages"])) <= 512 * 1024
        synced |= {message["id"]: message for message in page["messages"]}
        rev, more = page["messages"][-1]["rev"], page["hasMore"]
    assert sorted(synced) == sorted(sent)
    assert synced[sent[0]]["isDeleted"]
    assert [synced[id_] for id_ in sent[1:]] == read[1:]


async def test_a_hidden_message_stays_for_its_reader_as_it_was_when_it_was_hidden(
    people: People,
) -> None:
    """Clients ignore later changes of a message that is gone for them, so a sync must not show them."""
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    plain, edited, deleted = [await desk.say(talk, text) for text in ("plain", "edited", "deleted")]
    await desk.do("message:edit", {"messageId": edited["id"], "content": "before"})
    hidden = [
        await phone.do("message:delete", {"messageId": message["id"], "scope": "self"})
        for message in (plain, edited, deleted)
    ]
    await desk.do("message:edit", {"messageId": plain["id"], "content": "after"})
    await desk.do("message:delete", {"messageId": deleted["id"], "scope": "everyone"})

    page = await phone.do("messages:sync", {"conversationId": talk["id"], "afterRev": 0})
    path = f"/conversations/{talk['id']}"
    assert (await bob.ask("GET", f"{path}/messages"))["items"] == sorted(
        page["messages"], key=lambda message: message["seq"]
    )
    seen = {message["id"]: message for message in page["messages"]}
    for was, hide, is_edited in zip(
        (plain, edited, deleted), hidden, (False, True, False), strict=True
    ):
        now = seen[was["id"]]
        assert (now["isDeleted"], now["isEdited"], now["content"]) == (True, is_edited, "")
        assert now["deletedAt"] == now["updatedAt"] == hide["deletedAt"]
    assert (await bob.ask("GET", path))["lastMessage"] == seen[deleted["id"]]
