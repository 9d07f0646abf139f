"""Reactions and receipts of a message over REST."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from tests.support.people import People, devices
from tests.support.shapes import A_TIME


async def test_reactions_are_added_listed_and_removed(people: People) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol)
    desk, phone, outside = await devices(alice, bob, stranger)
    sent = await desk.say(group, "Cake?")
    path = f"/messages/{sent['id']}/reactions"
    assert await bob.ask("GET", path) == {"items": [], "nextCursor": None}

    where = {"messageId": sent["id"], "conversationId": group["id"]}
    told: list[Any] = []
    for who, emoji, count, is_new in [
        (bob, "👍🏽", 1, True),
        (carol, "👩‍👩‍👧", 1, True),
        (alice, "👍🏽", 2, True),
        (bob, "👍🏽", 2, False),
        (carol, ":shrug_1:", 1, True),
    ]:
        done = await who.ask("POST", path, {"emoji": emoji})
        assert done == {**where, "emoji": emoji, "userId": who.id, "totalCount": count}
        if is_new:
            told.append({**done, "rev": len(told) + 2})
    items = [
        {"emoji": "👍🏽", "count": 2, "userIds": [bob.id, alice.id]},
        {"emoji": "👩‍👩‍👧", "count": 1, "userIds": [carol.id]},
        {"emoji": ":shrug_1:", "count": 1, "userIds": [carol.id]},
    ]
    for who in (alice, bob, carol):
        assert await who.ask("GET", path) == {"items": items, "nextCursor": None}
    assert (await bob.ask("GET", f"/messages/{sent['id']}"))["reactions"] == items
    for device in (desk, phone):
        assert await device.all_heard("reaction:added") == told

    gone: list[Any] = []
    for who, emoji, count, was_there in [
        (bob, "👍🏽", 1, True),
        (bob, "👍🏽", 1, False),
        (bob, "👩‍👩‍👧", 1, False),
        (carol, "👩‍👩‍👧", 0, True),
        (carol, "👩‍👩‍👧", 0, False),
    ]:
        done = await who.ask("DELETE", f"{path}/{quote(emoji)}")
        assert done == {**where, "emoji": emoji, "userId": who.id, "totalCount": count}
        if was_there:
            gone.append({**done, "rev": len(told) + len(gone) + 2})
    assert await alice.ask("GET", path) == {
        "items": [{"emoji": "👍🏽", "count": 1, "userIds": [alice.id]}, items[2]],
        "nextCursor": None,
    }
    for device in (desk, phone):
        assert await device.all_heard("reaction:removed") == gone
    assert await outside.all_heard("reaction:added") == []
    assert await outside.all_heard("reaction:removed") == []
    refusal = await bob.refused("DELETE", f"{path}/nonsense")
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["emoji"])


async def test_the_same_reaction_twenty_times_at_once_counts_once(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    sent = await desk.say(talk, "?")
    path = f"/messages/{sent['id']}/reactions"
    answers = await asyncio.gather(*[bob.ask("POST", path, {"emoji": "👍"}) for _ in range(20)])
    assert {answer["totalCount"] for answer in answers} == {1}
    assert len(await desk.all_heard("reaction:added")) == 1
    assert (await bob.ask("GET", path))["items"][0]["count"] == 1


async def test_who_has_read_a_message_and_when(people: People) -> None:
    alice, bob, carol, dave, stranger = people("alice", "bob", "carol", "dave", "stranger")
    group = await alice.group(bob, carol, dave)
    desk, phone, outside = await devices(alice, bob, stranger)
    first, second, third = [await desk.say(group, text) for text in ("One", "Two", "Three")]

    async def readers(message: Any) -> list[str]:
        answer = await dave.ask("GET", f"/messages/{message['id']}/read")
        assert set(answer) == {"items", "nextCursor"}
        assert all(set(item) == {"userId", "readAt"} for item in answer["items"])
        return [item["userId"] for item in answer["items"]]

    assert await readers(second) == []
    read = await carol.ask("PUT", f"/messages/{second['id']}/read")
    told = {"messageId": second["id"], "conversationId": group["id"], "userId": carol.id}
    assert read == {**told, "readAt": A_TIME}
    for device in (desk, phone):
        assert await device.hears("message:read") == read
    items = await alice.ask("GET", f"/messages/{second['id']}/read")
    assert items == {
        "items": [{"userId": carol.id, "readAt": read["readAt"]}],
        "nextCursor": None,
    }
    # Reading it again, or reading one's own message, changes nothing and sends no event.
    assert await carol.ask("PUT", f"/messages/{second['id']}/read") == read
    own = await alice.ask("PUT", f"/messages/{second['id']}/read")
    assert own == {**told, "userId": alice.id, "readAt": A_TIME}

    done = await bob.ask("PUT", f"/conversations/{group['id']}/read")
    assert done == {
        "conversationId": group["id"],
        "userId": bob.id,
        "upToMessageId": third["id"],
        "count": 3,
        "readAt": A_TIME,
    }
    assert await desk.hears("conversation:read") == done
    assert [await readers(message) for message in (first, second, third)] == [
        [bob.id],
        [carol.id, bob.id],
        [bob.id],
    ]

    again = await bob.ask(
        "PUT", f"/conversations/{group['id']}/read", {"upToMessageId": first["id"]}
    )
    assert (again["upToMessageId"], again["count"]) == (first["id"], 0)
    assert len(await phone.all_heard("conversation:read")) == 1
    assert len(await phone.all_heard("message:read")) == 1
    for event in ("message:read", "conversation:read"):
        assert await outside.all_heard(event) == []

    # A user who has left is no longer listed.
    await bob.ask("DELETE", f"/conversations/{group['id']}/participants/{bob.id}")
    assert await readers(second) == [carol.id]


async def test_reading_an_empty_conversation_reads_nothing(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    for upto in ({}, {"upToMessageId": None}):
        done = await bob.ask("PUT", f"/conversations/{talk['id']}/read", upto)
        assert (done["upToMessageId"], done["count"]) == (None, 0)
    assert await desk.all_heard("conversation:read") == []
    other = await alice.group(bob)
    elsewhere = await desk.say(other, "Elsewhere")
    refusal = await bob.refused(
        "PUT", f"/conversations/{talk['id']}/read", {"upToMessageId": elsewhere["id"]}
    )
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["upToMessageId"])
