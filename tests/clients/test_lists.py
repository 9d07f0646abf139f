"""The project's own JavaScript client: the list of conversations, and presence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.chatters import No, Opener, opened, texts
from tests.support.people import People, Person, presence
from tests.support.through_balancer import balancer


async def test_presence_is_known_for_participants_of_an_open_conversation(
    people: People, chatter: Opener
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    phone = await chatter(bob)
    desk = await opened(await chatter(alice), group)
    seen = await desk.sees(group, lambda snapshot: len(snapshot["presence"]) == 3)
    assert seen["presence"][bob.id]["status"] == "online"
    assert seen["presence"][carol.id]["status"] == "offline"
    await phone.do("close")
    seen = await desk.sees(
        group, lambda snapshot: snapshot["presence"][bob.id]["status"] == "offline"
    )
    assert seen["presence"][bob.id]["lastSeen"]
    await phone.do("connect")
    await desk.sees(group, lambda snapshot: snapshot["presence"][bob.id]["status"] == "online")


async def test_watched_users_are_right_through_every_reconnection(
    people: People, chatter: Opener
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.group(bob)
    async with balancer([alice.server]) as front:
        desk = await chatter(alice, url=front.sockets)
        await desk.begin("present", with_={"userIds": [bob.id, carol.id]})

        async def shows(person: Person, status: str) -> Any:
            seen = await desk.sees(
                None, lambda seen: seen["presence"].get(person.id, {}).get("status") == status
            )
            return seen["presence"][person.id]

        await shows(bob, "offline")
        phone = await bob.connect()
        await shows(bob, "online")
        page = await desk.do("presencePage", None, talk["id"])
        assert [item["userId"] for item in page["items"]] == sorted([alice.id, bob.id])
        assert (page["nextCursor"], page["onlineCount"]) == (None, 2)
        # He leaves while the line is dead, and comes back when there is another one.
        front.silence()
        await phone.close()
        await presence(alice, bob.id, "offline")
        front.cut()
        assert (await shows(bob, "offline"))["lastSeen"]
        await bob.connect()
        await shows(bob, "online")
        # Carol was a stranger until now.
        await carol.connect()
        assert (await shows(carol, "offline"))["lastSeen"] is None
        await alice.ask(
            "POST", f"/conversations/{talk['id']}/participants", {"userIds": [carol.id]}
        )
        await shows(carol, "online")
        await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{carol.id}")
        assert (await shows(carol, "offline"))["lastSeen"] is None
        assert desk.told == []


async def test_the_list_follows_changes_of_conversations(people: People, chatter: Opener) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, name="Lunch")
    device = await alice.connect()
    for n in range(3):
        await device.say(group, f"line {n}")
    desk = await chatter(bob)
    seen = await desk.sees(None, lambda snapshot: len(snapshot["conversations"]) == 1)
    assert seen["conversations"][0]["unreadCount"] == 3

    other = await carol.direct(bob)
    seen = await desk.sees(None, lambda snapshot: len(snapshot["conversations"]) == 2)
    assert [conversation["unreadCount"] for conversation in seen["conversations"]] == [0, 3]
    await device.say(group, "line 3")
    last = await device.say(group, "line 4")
    seen = await desk.sees(None, lambda snapshot: snapshot["conversations"][0]["unreadCount"] == 5)
    assert [conversation["id"] for conversation in seen["conversations"]] == [
        group["id"],
        other["id"],
    ]
    # The client requests the count when only the server knows it: after a deletion, and after a single read message.
    await device.do("message:delete", {"messageId": last["id"]})
    seen = await desk.sees(None, lambda snapshot: snapshot["conversations"][0]["unreadCount"] == 4)
    assert seen["conversations"][0]["lastMessage"]["isDeleted"]
    phone = await bob.connect()
    (message,) = (
        await phone.do("messages:sync", {"conversationId": group["id"], "afterSeq": 1, "limit": 1})
    )["messages"]
    await phone.do("message:read", {"messageId": message["id"]})
    await desk.sees(None, lambda snapshot: snapshot["conversations"][0]["unreadCount"] == 3)
    await alice.ask("PATCH", f"/conversations/{group['id']}", {"name": "Dinner"})
    await alice.ask("POST", f"/conversations/{group['id']}/participants", {"userIds": [carol.id]})
    seen = await desk.sees(
        None, lambda snapshot: snapshot["conversations"][0]["participantCount"] == 3
    )
    assert seen["conversations"][0]["name"] == "Dinner"
    assert seen["conversations"][0]["unreadCount"] == 3


async def test_a_conversation_closes_for_a_removed_user_and_opens_again(
    people: People, chatter: Opener
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, phone = await chatter(alice), await chatter(bob)
    await asyncio.gather(opened(desk, group), opened(phone, group))
    await desk.says(group, "Bob is here")
    await phone.sees(group, lambda snapshot: texts(snapshot) == ["Bob is here"])

    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{bob.id}")
    seen = await phone.sees(group, lambda snapshot: snapshot["status"] == "closed")
    assert (seen["messages"], seen["conversations"]) == ([], [])
    await desk.says(group, "Bob is gone")
    key = await phone.says(group, "Can you hear me?")
    seen = await phone.sees(group, lambda snapshot: snapshot["messages"][0]["state"] == "failed")
    assert seen["messages"][0]["error"]["code"] == "NOT_FOUND"
    await phone.do("discard", group, key)

    await alice.ask("POST", f"/conversations/{group['id']}/participants", {"userIds": [bob.id]})
    seen = await phone.sees(group, lambda snapshot: snapshot["status"] == "live")
    assert texts(seen) == ["Bob is here", "Bob is gone"]

    # The same while the client is disconnected.
    await phone.do("close")
    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{bob.id}")
    await phone.do("connect")
    await phone.sees(
        group, lambda snapshot: snapshot["status"] == "closed" and snapshot["conversations"] == []
    )
    with pytest.raises(No) as refused:
        await phone.do("open", group)
    assert refused.value.code == "NOT_FOUND"


async def test_conversations_that_are_not_open_are_correct_after_a_cut_line(
    people: People, chatter: Opener
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, group = await alice.direct(bob), await bob.group(alice, carol)
    device = await alice.connect()
    async with balancer([bob.server]) as front:
        desk = await chatter(bob, url=front.sockets)
        await desk.sees(None, lambda snapshot: len(snapshot["conversations"]) == 2)
        # Two tabs of one user: a message that is read in one tab is read in the other.
        tab = await opened(await chatter(bob), talk)
        first = await device.say(talk, "one")
        await desk.sees(None, lambda snapshot: snapshot["conversations"][0]["unreadCount"] == 1)
        await tab.sees(talk, lambda snapshot: texts(snapshot) == ["one"])
        await tab.do("markRead", talk)
        await desk.sees(None, lambda snapshot: snapshot["conversations"][0]["unreadCount"] == 0)

        front.silence()
        await device.say(talk, "two")
        await device.do("message:edit", {"messageId": first["id"], "content": "one, edited"})
        last = await device.say(group, "three")
        other = await carol.direct(bob)
        front.cut()
        seen = await desk.sees(
            None,
            lambda snapshot: [c["unreadCount"] for c in snapshot["conversations"]] == [0, 1, 1],
        )
        assert [conversation["id"] for conversation in seen["conversations"]] == [
            other["id"],
            group["id"],
            talk["id"],
        ]
        assert seen["conversations"][1]["lastMessage"]["id"] == last["id"]
        assert desk.told == []


async def test_the_participants_of_a_large_conversation_are_paged_and_counted(
    people: People, chatter: Opener
) -> None:
    alice, bob, *crowd = people("alice", "bob", *(f"p{n:03}" for n in range(210)))
    talk = await alice.group(bob, *crowd[:200])
    desk = await chatter(alice)

    async def counts(number: int) -> None:
        await desk.sees(
            None,
            lambda seen: [each["participantCount"] for each in seen["conversations"]] == [number],
        )

    await counts(202)
    path = f"/conversations/{talk['id']}/participants"
    await alice.ask("POST", path, {"userIds": [person.id for person in crowd[200:]]})
    await counts(212)
    await crowd[209].ask("DELETE", f"{path}/{crowd[209].id}")
    await counts(211)
    found: list[str] = []
    asked: dict[str, Any] = {"role": "member", "limit": 100}
    while True:
        page = await desk.do("participants", None, talk["id"], asked)
        found += [participant["userId"] for participant in page["items"]]
        if page["nextCursor"] is None:
            break
        asked = {**asked, "cursor": page["nextCursor"]}
    assert len(found) == 210
    assert set(found) == {person.id for person in (bob, *crowd[:209])}
