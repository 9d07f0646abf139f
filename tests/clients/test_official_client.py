"""The official JavaScript client: sending, upgrading, reconnecting by itself, and syncing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.browsers import CUT, TRANSPORTS, Browser, Lost, everything_since_the_start
from tests.support.people import People, token
from tests.support.servers import ChatServer
from tests.support.shapes import A_SENTENCE, A_TIME, bad_token, error, message

Starter = Callable[..., Awaitable[ChatServer]]
PeopleOf = Callable[[ChatServer], People]


async def three(people: People) -> tuple[Any, Browser, Browser, Browser]:
    """Returns a group of three clients: one with WebSocket, one that upgraded to it, and one that polls."""
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, phone, poll = await asyncio.gather(
        Browser.open(alice, "websocket"), Browser.open(bob), Browser.open(carol, "polling")
    )
    await phone.hears("client:upgrade")
    for browser in (desk, phone, poll):
        await browser.caught_up()
    return group, desk, phone, poll


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_two_browsers_talk(people: People, transports: list[str]) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await asyncio.gather(
        *[Browser.open(person, *transports) for person in (alice, bob)]
    )
    for browser in (desk, phone):
        assert await browser.hears("client:open") == transports[0]
        if len(transports) == 2:
            assert await browser.hears("client:upgrade") == "websocket"
        (socket_id,) = await browser.all_heard("client:connect")
        (connected,) = await browser.all_heard("connected")
        assert connected == {
            "userId": browser.person.id,
            "socketId": socket_id,
            "rooms": [talk["id"]],
            "timestamp": A_TIME,
        }
    here = {"conversationId": talk["id"]}

    await phone.do("typing:start", here)
    typing = await desk.hears("user:typing")
    assert typing == {
        **here,
        "userId": bob.id,
        "type": "typing",
        "isActive": True,
        "timestamp": A_TIME,
    }
    sent = await phone.say(talk, "Привет 👋", clientMessageId="1")
    assert sent == message(
        **here, seq=1, rev=1, senderId=bob.id, content="Привет 👋", clientMessageId="1"
    )
    assert await phone.say(talk, "Привет 👋", clientMessageId="1") == sent
    assert await desk.hears("message:new") == sent
    of_it = {"messageId": sent["id"], **here}
    read = await desk.do("message:read", {"messageId": sent["id"]})
    assert await phone.hears("message:read") == read
    added = await desk.do("reaction:add", {"messageId": sent["id"], "emoji": "❤️"})
    assert added == {**of_it, "emoji": "❤️", "userId": alice.id, "totalCount": 1}
    assert await phone.hears("reaction:added") == {**added, "rev": 2}
    edited = await phone.do("message:edit", {"messageId": sent["id"], "content": "Hi"})
    assert (await desk.hears("message:updated"))["content"] == edited["content"] == "Hi"
    deleted = await phone.do("message:delete", {"messageId": sent["id"]})
    assert await desk.hears("message:deleted") == {**deleted, "rev": 4}

    assert await desk.all_heard("message:new") == [sent]
    refusal = await desk.refused("message:send", {**here, "content": "", "colour": "red"})
    assert refusal.error == error("VALIDATION_FAILED", details={"colour": [A_SENTENCE]})
    await desk.client.emit("message:send", here)
    assert (await desk.hears("error"))["event"] == "message:send"
    await desk.client.emit("ping", {})
    assert await desk.hears("pong") == {"timestamp": A_TIME}


async def test_a_browser_misses_nothing_while_it_upgrades(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    opening = asyncio.create_task(Browser.open(bob))
    upgraded = asyncio.Event()

    async def talk_on() -> None:
        while not upgraded.is_set():
            await desk.say(talk, "On and on")

    talking = asyncio.create_task(talk_on())
    phone = await opening
    await phone.hears("client:upgrade")
    await phone.hears("message:new")
    upgraded.set()
    await talking
    last = await desk.say(talk, "The end")

    heard = await phone.all_heard("message:new")
    assert heard[-1] == last
    names = [name for name, _ in phone.heard]
    assert names.index("connected") < names.index("message:new")
    assert heard == (await everything_since_the_start(phone, talk))[heard[0]["seq"] - 1 :]


async def test_browsers_reconnect_after_a_crash_and_miss_nothing(
    start: Starter, people_of: PeopleOf
) -> None:
    server = await start()
    group, desk, phone, poll = await three(people_of(server))

    # Alice is still sending when the server is killed.
    texts = [f"line {number}" for number in range(1000)]
    sends = [asyncio.ensure_future(desk.say(group, text, clientMessageId=text)) for text in texts]
    await sends[40]
    await server.kill()
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    acked = {
        outcome["content"]: outcome
        for outcome in outcomes
        if not isinstance(outcome, BaseException)
    }
    assert all(isinstance(outcome, (dict, Lost)) for outcome in outcomes)
    assert len(acked) > 40

    phone.client.hold()
    poll.client.hold()
    await server.start()
    # The client repeats unacknowledged sends; the other clients are not connected yet.
    await desk.hears("connected")
    everything = await asyncio.gather(
        *[desk.say(group, text, clientMessageId=text) for text in texts]
    )
    assert {
        message["content"]: message for message in everything if message["content"] in acked
    } == acked
    assert [message["seq"] for message in sorted(everything, key=_seq)] == list(range(1, 1001))
    told = [message["seq"] for message in await desk.all_heard("message:new")]
    assert len(told) == len(set(told))
    await desk.do("message:edit", {"messageId": everything[0]["id"], "content": "the first line"})
    await desk.do("message:delete", {"messageId": everything[1]["id"]})
    history = await everything_since_the_start(desk, group)
    assert [message["content"] for message in history[:3]] == ["the first line", "", "line 2"]

    for browser in (phone, poll):
        browser.client.go_on()
        assert await browser.hears("client:disconnect") in CUT
        await browser.hears("client:connect")
        await browser.hears("connected")
        before = await browser.all_heard("message:new")
        assert [message["seq"] for message in before] == list(range(1, len(before) + 1))
        assert len(before) < 1000
        known = {message["id"]: message for message in before}
        rev = before[-1]["rev"] if before else 0
        while True:
            asked = {"conversationId": group["id"], "afterRev": rev, "limit": 200}
            synced = await browser.do("messages:sync", asked)
            revs = [message["rev"] for message in synced["messages"]]
            assert revs == sorted(revs)
            known |= {message["id"]: message for message in synced["messages"]}
            if not synced["hasMore"]:
                break
            rev = revs[-1]
        assert sorted(known.values(), key=_seq) == history
        assert synced["lastSeq"] == 1000
        assert await browser.all_heard("message:new") == before
    back = await phone.say(group, "I am back")
    for browser in (desk, phone, poll):
        assert await browser.hears("message:new", lambda message: message["seq"] == 1001) == back


def _seq(message: dict[str, Any]) -> int:
    return int(message["seq"])


async def test_a_stopping_server_disconnects_browsers_so_that_they_reconnect(
    start: Starter, people_of: PeopleOf
) -> None:
    server = await start()
    group, desk, phone, poll = await three(people_of(server))
    # The server finishes everything that it accepted before.
    sends = [asyncio.ensure_future(desk.say(group, str(number))) for number in range(100)]
    await sends[0]
    assert await server.stop() == 0
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    acked = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    for browser in (desk, phone, poll):
        assert await browser.hears("client:disconnect") in CUT

    await server.start()
    for browser in (desk, phone, poll):
        await browser.hears("client:connect")
        await browser.hears("connected")
    synced = await phone.do(
        "messages:sync", {"conversationId": group["id"], "afterRev": 0, "limit": 200}
    )
    assert synced["messages"][: len(acked)] == acked
    back = await poll.say(group, "I am back")
    for browser in (desk, phone, poll):
        assert (
            await browser.hears("message:new", lambda message: message["id"] == back["id"]) == back
        )


async def test_a_refused_browser_gets_the_reason_and_does_not_retry(people: People) -> None:
    alice, bob = people("alice", "bob")
    expired, forged, desk = await asyncio.gather(
        Browser.open(alice, with_token=token(alice.id, expires_in=-5)),
        Browser.open(alice, "websocket", with_token="a.b.c"),
        Browser.open(alice, "websocket"),
    )
    await desk.hears("connected")
    await desk.do("auth:refresh", {"token": token(alice.id, expires_in=1.5)})
    refused = {"message": A_SENTENCE, "data": bad_token("expired")}
    assert await expired.hears("client:refused") == refused
    refused = {"message": A_SENTENCE, "data": bad_token("malformed")}
    assert await forged.hears("client:refused") == refused

    phone = await Browser.open(bob)
    await phone.hears("client:upgrade")
    await phone.caught_up()
    await people.master("POST", "/users/sync", {"externalUserId": bob.id, "status": "blocked"})
    assert await phone.hears("error") == error("FORBIDDEN")
    assert await phone.hears("client:disconnect") == "io server disconnect"

    assert await desk.hears("error") == bad_token("expired")
    assert await desk.hears("client:disconnect") == "io server disconnect"
    for browser in (expired, forged, desk, phone):
        assert [name for name, _ in browser.heard].count("client:connect") <= 1
