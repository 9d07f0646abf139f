"""The project's own JavaScript client: what a person sees in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from .chatters import Chatter, No, seqs, texts
from .people import People, Person, token
from .servers import ChatServer

Starter = Callable[..., Awaitable[ChatServer]]
PeopleOf = Callable[[ChatServer], People]
Opener = Callable[..., Awaitable[Chatter]]


@pytest_asyncio.fixture
async def chatter() -> AsyncIterator[Opener]:
    """Somebody's client, online: `await chatter(alice)`."""
    made: list[Chatter] = []

    async def open_one(
        person: Person, tokens: Callable[[], str] | None = None, **options: Any
    ) -> Chatter:
        one = Chatter(person, tokens or (lambda: person.token))
        made.append(one)
        api = f"{person.server.rest}/api"
        await one.start({"url": person.server.sockets, "api": api, **options})
        await one.do("connect")
        return one

    yield open_one
    await asyncio.gather(*[one.close() for one in made])


async def opened(one: Chatter, conversation: Any) -> Chatter:
    await one.do("open", conversation)
    return one


TRANSPORTS: dict[str, dict[str, Any]] = {
    "websocket": {},
    "polling": {"socket": {"transports": ["polling"]}},
    "upgrade": {"forceWebSocket": False},
}


@pytest.mark.parametrize("options", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_two_people_talk(people: People, chatter: Opener, options: dict[str, Any]) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await asyncio.gather(chatter(alice, **options), chatter(bob, **options))
    await asyncio.gather(opened(desk, talk), opened(phone, talk))

    # It is in the list at once, and stays the same line when it is acknowledged.
    await desk.do("record", talk)
    await desk.says(talk, "Hello, Bob")
    seen = await desk.sees(talk, lambda one: seqs(one) == [1])
    recorded = await desk.do("recorded", talk)
    (key, first_seq, first_state) = recorded[0][0]
    assert (first_seq, first_state) == (None, "pending")
    assert {line[0][0] for line in recorded} == {key}
    assert recorded[-1] == [[key, 1, "sent"]]
    assert seen["messages"][0]["senderId"] == alice.id

    seen = await phone.sees(talk, lambda one: seqs(one) == [1] and one["conversations"])
    first = seen["messages"][0]
    (listed,) = seen["conversations"]
    assert (listed["unreadCount"], listed["lastMessage"]["content"]) == (1, "Hello, Bob")
    await phone.do("react", talk, first["id"], "👋")
    await phone.says(talk, {"content": "Hello, Alice", "replyTo": first["id"]})
    await desk.do("edit", talk, first["id"], "Hello, dear Bob")
    await phone.do("markRead", talk)
    for one in (desk, phone):
        seen = await one.sees(
            talk,
            lambda seen: texts(seen) == ["Hello, dear Bob", "Hello, Alice"] and _told_all(seen),
        )
        assert seen["messages"][0]["reactions"] == [
            {"emoji": "👋", "count": 1, "userIds": [bob.id]}
        ]
        assert seen["messages"][1]["replyTo"] == first["id"]
        assert bob.id in dict(seen["marks"])
    await phone.sees(talk, lambda seen: seen["conversations"][0]["unreadCount"] == 0)
    await desk.do("unreact", talk, first["id"], "👋")
    await phone.do("unreact", talk, first["id"], "👋")
    await desk.do("delete", talk, first["id"])
    seen = await phone.sees(talk, lambda seen: seen["messages"][0]["isDeleted"])
    assert seen["messages"][0]["content"] == ""
    assert (await desk.look(talk))["messages"][0]["reactions"] == []
    assert desk.told == phone.told == []
    assert [state["status"] for state in desk.states] == ["connecting", "online"]


def _told_all(seen: Any) -> bool:
    return bool(seen["messages"][0]["reactions"]) and bool(seen["marks"])


async def test_a_refused_message_stays_in_the_list_until_it_is_sent_again_or_given_up(
    people: People, chatter: Opener
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await opened(await chatter(alice), talk)

    key = await desk.says(talk, "x" * 10_001)
    await desk.says(talk, "Shorter")
    seen = await desk.sees(talk, lambda one: len(one["messages"]) == 2 and seqs(one) == [1, None])
    failed = seen["messages"][1]
    assert (failed["state"], failed["error"]["code"]) == ("failed", "VALIDATION_FAILED")
    await desk.do("retry", talk, key)
    await desk.sees(talk, lambda one: one["messages"][1]["state"] == "failed")
    await desk.do("discard", talk, key)
    await desk.sees(talk, lambda one: seqs(one) == [1])
    with pytest.raises(No) as refused:
        await desk.do("edit", talk, "no-such-message", "New text")
    assert refused.value.code == "NOT_FOUND"


async def test_typing_is_told_once_for_many_keys_and_ends_by_itself(
    start: Starter, people_of: PeopleOf, chatter: Opener
) -> None:
    server = await start(TYPING_TIMEOUT_S="6")
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await chatter(alice), await chatter(bob)
    await asyncio.gather(opened(desk, talk), opened(phone, talk))

    await desk.begin("type", talk, {"ms": 500})
    assert (await phone.sees(talk, lambda one: one["typing"] == [alice.id]))["recording"] == []
    # By the client, four seconds after the last key; the server would wait for six after what it was told.
    await phone.sees(talk, lambda one: one["typing"] == [])
    assert server.log.count('"typing:start"') == 1
    assert server.log.count('"typing:stop"') == 1

    await phone.do("recording", talk)
    await desk.sees(talk, lambda one: one["recording"] == [bob.id])
    await phone.says(talk, "Sent")
    await desk.sees(talk, lambda one: one["recording"] == [] and texts(one) == ["Sent"])


async def test_older_messages_are_loaded_page_by_page_while_others_change_them(
    people: People, chatter: Opener
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    device = await bob.connect()
    sent = [await device.say(talk, f"line {n}") for n in range(1, 131)]
    desk = await opened(await chatter(alice), talk)
    seen = await desk.look(talk)
    assert (seqs(seen), seen["hasOlder"]) == (list(range(81, 131)), True)

    loading = desk.begin("loadOlder", talk, [60])
    changes = [
        asyncio.create_task(
            device.do("message:edit", {"messageId": one["id"], "content": f"{one['content']}!"})
        )
        for one in sent
    ]
    await loading
    assert seqs(await desk.look(talk)) == list(range(21, 131))
    await asyncio.gather(*changes)
    await desk.do("loadOlder", talk)
    await desk.do("loadOlder", talk)
    seen = await desk.sees(talk, lambda one: one["messages"][-1]["content"].endswith("!"))
    assert texts(seen) == [f"line {n}!" for n in range(1, 131)]
    assert (seqs(seen), seen["hasOlder"]) == (list(range(1, 131)), False)


async def test_presence_is_known_of_those_in_an_open_conversation(
    people: People, chatter: Opener
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    phone = await chatter(bob)
    desk = await opened(await chatter(alice), group)
    seen = await desk.sees(group, lambda one: len(one["presence"]) == 3)
    assert seen["presence"][bob.id]["status"] == "online"
    assert seen["presence"][carol.id]["status"] == "offline"
    await phone.do("close")
    seen = await desk.sees(group, lambda one: one["presence"][bob.id]["status"] == "offline")
    assert seen["presence"][bob.id]["lastSeen"]
    await phone.do("connect")
    await desk.sees(group, lambda one: one["presence"][bob.id]["status"] == "online")


async def test_the_list_follows_what_happens_to_conversations(
    people: People, chatter: Opener
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, name="Lunch")
    device = await alice.connect()
    for n in range(3):
        await device.say(group, f"line {n}")
    desk = await chatter(bob)
    seen = await desk.sees(None, lambda one: len(one["conversations"]) == 1)
    assert seen["conversations"][0]["unreadCount"] == 3

    other = await carol.direct(bob)
    seen = await desk.sees(None, lambda one: len(one["conversations"]) == 2)
    assert [one["unreadCount"] for one in seen["conversations"]] == [0, 3]
    await device.say(group, "line 3")
    last = await device.say(group, "line 4")
    seen = await desk.sees(None, lambda one: one["conversations"][0]["unreadCount"] == 5)
    assert [one["id"] for one in seen["conversations"]] == [group["id"], other["id"]]
    # What only the server can count is asked for: a deleted message, a single one that was read.
    await device.do("message:delete", {"messageId": last["id"]})
    seen = await desk.sees(None, lambda one: one["conversations"][0]["unreadCount"] == 4)
    assert seen["conversations"][0]["lastMessage"]["isDeleted"]
    phone = await bob.connect()
    (message,) = (
        await phone.do("messages:sync", {"conversationId": group["id"], "afterSeq": 1, "limit": 1})
    )["messages"]
    await phone.do("message:read", {"messageId": message["id"]})
    await desk.sees(None, lambda one: one["conversations"][0]["unreadCount"] == 3)
    await alice.ask("PATCH", f"/conversations/{group['id']}", {"name": "Dinner"})
    await alice.ask("POST", f"/conversations/{group['id']}/participants", {"userIds": [carol.id]})
    seen = await desk.sees(None, lambda one: one["conversations"][0]["participantCount"] == 3)
    assert seen["conversations"][0]["name"] == "Dinner"
    assert seen["conversations"][0]["unreadCount"] == 3


async def test_a_conversation_closes_for_whoever_is_removed_and_opens_again(
    people: People, chatter: Opener
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, phone = await chatter(alice), await chatter(bob)
    await asyncio.gather(opened(desk, group), opened(phone, group))
    await desk.says(group, "Bob is here")
    await phone.sees(group, lambda one: texts(one) == ["Bob is here"])

    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{bob.id}")
    seen = await phone.sees(group, lambda one: one["status"] == "closed")
    assert (seen["messages"], seen["conversations"]) == ([], [])
    await desk.says(group, "Bob is gone")
    key = await phone.says(group, "Can you hear me?")
    seen = await phone.sees(group, lambda one: one["messages"][0]["state"] == "failed")
    assert seen["messages"][0]["error"]["code"] == "NOT_FOUND"
    await phone.do("discard", group, key)

    await alice.ask("POST", f"/conversations/{group['id']}/participants", {"userIds": [bob.id]})
    seen = await phone.sees(group, lambda one: one["status"] == "live")
    assert texts(seen) == ["Bob is here", "Bob is gone"]

    # While away, too.
    await phone.do("close")
    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{bob.id}")
    await phone.do("connect")
    await phone.sees(group, lambda one: one["status"] == "closed" and one["conversations"] == [])
    with pytest.raises(No) as refused:
        await phone.do("open", group)
    assert refused.value.code == "NOT_FOUND"


async def test_a_token_is_renewed_before_it_ends_without_a_break(
    people: People, chatter: Opener
) -> None:
    alice, bob = people("alice", "bob")
    desk = await chatter(alice, lambda: token(alice.id, expires_in=3))
    await desk.sees(None, lambda one: desk.wishes >= 2)
    await asyncio.sleep(1)
    assert [state["status"] for state in desk.states] == ["connecting", "online"]

    # An app that has the same token until it has expired: away for a moment, and back.
    tokens: list[str] = []

    def kept() -> str:
        tokens.append(
            tokens[0] if len(tokens) == 1 else token(bob.id, expires_in=2 + 60 * len(tokens))
        )
        return tokens[-1]

    phone = await chatter(bob, kept)
    await phone.sees(None, lambda one: len(phone.states) >= 5)
    statuses = [
        (state["status"], state["reason"] and state["reason"]["code"]) for state in phone.states
    ]
    assert statuses == [
        ("connecting", None),
        ("online", None),
        ("offline", "TOKEN_EXPIRED"),
        ("connecting", "TOKEN_EXPIRED"),
        ("online", None),
    ]


async def test_who_is_refused_knows_why_and_whether_it_will_be_tried_again(
    start: Starter, people_of: PeopleOf, chatter: Opener
) -> None:
    server = await start(
        RATE_LIMITS="on", SOCKETS_PER_USER="1", PING_INTERVAL_S="2", PING_TIMEOUT_S="1"
    )
    everybody = people_of(server)
    alice, bob, carol = everybody("alice", "bob", "carol")

    forged = await chatter(alice, lambda: "a.b.c")
    await forged.sees(None, lambda one: one["state"] == "refused")
    assert forged.states[-1]["reason"]["code"] == "UNAUTHENTICATED"
    assert forged.states[-1]["retryAt"] is None
    forged.tokens = lambda: alice.token
    await forged.do("connect")
    await forged.sees(None, lambda one: one["state"] == "online")

    # One too many: it comes as soon as there is room.
    first = await chatter(bob)
    await first.sees(None, lambda one: one["state"] == "online")
    second = await chatter(bob)
    await second.sees(None, lambda one: one["state"] == "refused")
    refused = second.states[-1]
    assert refused["reason"]["code"] == "RATE_LIMITED"
    # The server asks for three seconds; those who were refused together do not come back together.
    assert 0 < refused["retryAt"] / 1000 - time.time() < 4
    await first.do("close")
    await second.sees(None, lambda one: one["state"] == "online")

    blocked = await chatter(carol)
    await blocked.sees(None, lambda one: one["state"] == "online")
    await everybody.master("POST", "/users/sync", {"externalUserId": carol.id, "status": "blocked"})
    await blocked.sees(None, lambda one: one["state"] == "refused")
    assert blocked.states[-1]["reason"]["code"] == "FORBIDDEN"


async def test_what_is_said_offline_outlives_the_page_and_is_sent_in_order(
    people: People, chatter: Opener, tmp_path: Path
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    file = tmp_path / "outbox.json"
    file.write_text("[]")
    desk = Chatter(alice, lambda: alice.token)
    await desk.start({"url": alice.server.sockets, "file": str(file)})
    for n in range(5):
        await desk.says(talk, f"line {n}")
    assert texts(await desk.look(talk)) == [f"line {n}" for n in range(5)]
    desk.process.kill()
    await desk.process.wait()

    # Somebody else at the same device sees and sends nothing of it once it is known who it is.
    phone = await opened(await chatter(bob), talk)
    again = await chatter(alice, file=str(file))
    await opened(again, talk)
    seen = await phone.sees(talk, lambda one: len(one["messages"]) == 5)
    assert texts(seen) == [f"line {n}" for n in range(5)]
    await again.sees(talk, lambda one: seqs(one) == [1, 2, 3, 4, 5])
    assert file.read_text() == "[]"


async def test_the_rate_limit_delays_sends_and_keeps_their_order(
    start: Starter, people_of: PeopleOf, chatter: Opener
) -> None:
    server = await start(RATE_LIMITS="on")
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = await opened(await chatter(alice), talk)
    lines = [f"line {n}" for n in range(130)]
    assert await desk.begin("sendAll", talk, {"texts": lines}) == 130
    seen = await desk.look(talk)
    assert texts(seen) == lines
    assert seqs(seen) == list(range(1, 131))
    assert '"RATE_LIMITED"' in server.log
