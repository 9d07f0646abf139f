"""The two lists with pages: a user's conversations, and the messages of a conversation."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.people import PATIENCE_S, People, Person, devices
from tests.support.shapes import conversation, message, participant, seen_by


async def pages(person: Person, limit: int) -> list[list[Any]]:
    """Returns all pages of the person's conversations, in order."""
    found: list[list[Any]] = []
    path = f"/conversations?limit={limit}"
    for _ in range(20):
        page = await person.ask("GET", path)
        assert set(page) == {"items", "nextCursor"}
        found.append(page["items"])
        if page["nextCursor"] is None:
            return found
        path = f"/conversations?limit={limit}&cursor={page['nextCursor']}"
    raise AssertionError("The pages do not end.")


async def ids(person: Person) -> list[str]:
    return [
        conversation["id"] for conversation in (await person.ask("GET", "/conversations"))["items"]
    ]


async def comes_first(person: Person, talk: Any) -> None:
    """Waits until the talk is first: lists follow messages from other nodes with a short delay."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await ids(person))[0] == talk["id"]:
                return
            await asyncio.sleep(0.01)


async def test_a_new_user_has_no_conversations(people: People) -> None:
    assert await people("alice").ask("GET", "/conversations") == {"items": [], "nextCursor": None}


async def test_the_conversation_that_was_active_last_comes_first(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talks = [await alice.group(bob, name=f"Talk {n}") for n in range(4)]
    await alice.group(carol)
    assert await ids(bob) == [talk["id"] for talk in reversed(talks)]

    desk, phone = await alice.connect(), await bob.connect()
    for at in (1, 3, 0):
        await (desk if at else phone).say(talks[at], "Up it goes")
        await comes_first(bob, talks[at])
    order = [talks[at]["id"] for at in (0, 3, 1, 2)]
    assert await ids(bob) == order
    # Other changes do not move a conversation.
    sent = (await bob.ask("GET", "/conversations?limit=1"))["items"][0]["lastMessage"]
    await desk.do("reaction:add", {"messageId": sent["id"], "emoji": "👍"})
    await phone.do("conversation:read", {"conversationId": talks[2]["id"]})
    await phone.do("message:edit", {"messageId": sent["id"], "content": "Still there"})
    assert await ids(bob) == order


async def test_the_list_shows_each_conversation_in_full(people: People) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob, name="Plans")
    path = f"/conversations/{group['id']}/messages"
    await alice.ask("POST", path, {"content": "One"})
    last = await alice.ask("POST", path, {"content": "Two"})
    whole = conversation(
        participant(alice.id, "owner"),
        participant(bob.id),
        id=group["id"],
        name="Plans",
        createdBy=alice.id,
        lastSeq=2,
        lastRev=2,
        lastMessage=last,
    )
    for who, unread in ((alice, 0), (bob, 2)):
        page = await who.ask("GET", "/conversations")
        own = {**seen_by(whole, who.id), "unreadCount": unread}
        assert page == {"items": [own], "nextCursor": None}

    # A reaction to the first message is a change, but the last message stays the last.
    first = (await bob.ask("GET", path))["items"][0]
    await bob.ask("POST", f"/messages/{first['id']}/reactions", {"emoji": "👍"})
    (hers,) = (await alice.ask("GET", "/conversations"))["items"]
    assert (hers["lastMessage"], hers["lastSeq"], hers["lastRev"]) == (last, 2, 3)


async def test_a_last_message_that_bob_hid_is_hidden_in_his_list(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    await desk.say(talk, "One")
    last = await desk.say(talk, "Two")
    await phone.do("message:delete", {"messageId": last["id"], "scope": "self"})
    (mine,) = (await bob.ask("GET", "/conversations"))["items"]
    (hers,) = (await alice.ask("GET", "/conversations"))["items"]
    assert hers["lastMessage"] == last
    assert (mine["lastMessage"]["content"], mine["lastMessage"]["isDeleted"]) == ("", True)
    assert (mine["lastSeq"], mine["unreadCount"]) == (2, 1)
    # It shows a device that was away that there is something to sync.
    synced = await phone.do("messages:sync", {"conversationId": talk["id"], "afterRev": 2})
    assert (mine["lastSeq"], mine["lastRev"]) == (synced["lastSeq"], synced["lastRev"])


async def test_pages_of_conversations_follow_each_other_without_gap_or_repeat(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    # Created at the same time, so that some have the same timestamp.
    made = await asyncio.gather(*[alice.group(bob) for _ in range(12)])
    everything = await ids(bob)
    assert sorted(everything) == sorted(conversation["id"] for conversation in made)
    for limit, sizes in ((1, [1] * 12), (5, [5, 5, 2]), (6, [6, 6]), (12, [12]), (200, [12])):
        found = await pages(bob, limit)
        assert [len(page) for page in found] == sizes
        assert [conversation["id"] for page in found for conversation in page] == everything


async def test_a_conversation_that_moves_up_while_bob_pages_hides_no_other(people: People) -> None:
    alice, bob = people("alice", "bob")
    made = [await alice.group(bob) for _ in range(6)]
    first = await bob.ask("GET", "/conversations?limit=2")
    oldest = made[0]["id"]
    await alice.ask("POST", f"/conversations/{oldest}/messages", {"content": "Up"})
    await comes_first(bob, made[0])
    await alice.ask("DELETE", f"/conversations/{first['items'][1]['id']}")
    rest = await bob.ask("GET", f"/conversations?limit=10&cursor={first['nextCursor']}")
    assert [conversation["id"] for conversation in rest["items"]] == [
        conversation["id"] for conversation in reversed(made[1:4])
    ]
    assert rest["nextCursor"] is None
    await comes_first(bob, made[0])


async def test_only_the_users_own_conversations_are_listed(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    both, hers = await alice.group(bob, carol), await alice.group(carol)
    assert await ids(bob) == [both["id"]]
    assert await ids(carol) == [hers["id"], both["id"]]
    await alice.ask("DELETE", f"/conversations/{both['id']}/participants/{bob.id}")
    assert await ids(bob) == []
    assert await ids(alice) == [hers["id"], both["id"]]


async def test_history_is_newest_page_first_and_each_page_ascending(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    path = f"/conversations/{talk['id']}/messages"
    assert await bob.ask("GET", path) == {"items": [], "hasMore": False}
    desk = await alice.connect()
    said = await asyncio.gather(*[desk.say(talk, f"Message {n}") for n in range(1, 61)])
    assert [message["seq"] for message in said] == list(range(1, 61))
    assert said[6] == message(
        id=said[6]["id"],
        conversationId=talk["id"],
        seq=7,
        rev=7,
        senderId=alice.id,
        content="Message 7",
    )

    async def page(query: str) -> tuple[list[Any], bool]:
        answer = await bob.ask("GET", f"{path}?{query}")
        assert set(answer) == {"items", "hasMore"}
        return answer["items"], answer["hasMore"]

    assert await page("") == (said[10:], True)
    assert await page("limit=60") == (said, False)
    assert await page("limit=200") == (said, False)
    assert await page("limit=1") == (said[-1:], True)
    for seq in (2, 11, 31, 60):
        for mark in (said[seq - 1]["id"], str(seq)):
            older = said[: seq - 1]
            assert await page(f"limit=10&before={mark}") == (older[-10:], len(older) > 10)
            newer = said[seq:]
            assert await page(f"limit=10&after={mark}") == (newer[:10], len(newer) > 10)
    assert await page("before=1") == ([], False)
    assert await page("after=60") == ([], False)
    assert await page("after=0&limit=200") == (said, False)
    assert await page("before=1000&limit=200") == (said, False)

    refusal = await bob.refused("GET", f"{path}?before=9&after=3")
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["after"])
    assert (await stranger.refused("GET", path)).code == "NOT_FOUND"


async def test_a_position_in_another_conversation_is_refused(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, other = await alice.direct(bob), await alice.direct(carol)
    elsewhere = await (await alice.connect()).say(other, "Elsewhere")
    for mark in ("before", "after"):
        refusal = await alice.refused(
            "GET", f"/conversations/{talk['id']}/messages?{mark}={elsewhere['id']}"
        )
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", [mark])


async def test_an_edited_deleted_or_hidden_message_keeps_its_place(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    path = f"/conversations/{talk['id']}/messages"
    first, second, third, fourth = [
        await alice.ask("POST", path, {"content": text}) for text in ("1", "2", "3", "4")
    ]
    edited = await alice.ask("PATCH", f"/messages/{first['id']}", {"content": "One"})
    await alice.ask("DELETE", f"/messages/{second['id']}")
    await bob.ask("DELETE", f"/messages/{third['id']}?scope=self")
    hers = (await alice.ask("GET", path))["items"]
    his = (await bob.ask("GET", path))["items"]
    assert (
        [message["seq"] for message in hers] == [message["seq"] for message in his] == [1, 2, 3, 4]
    )
    assert hers[0] == his[0] == edited
    assert hers[1] == his[1]
    assert (hers[1]["content"], hers[1]["isDeleted"]) == ("", True)
    assert (hers[2], hers[3], his[3]) == (third, fourth, fourth)
    assert (his[2]["content"], his[2]["isDeleted"]) == ("", True)
