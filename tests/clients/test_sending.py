"""The project's own JavaScript client: sends, refusals and the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.chatters import Chatter, No, Opener, opened, seqs, texts
from tests.support.people import People
from tests.support.raw import Wire
from tests.support.servers import ChatServer

Starter = Callable[..., Awaitable[ChatServer]]
PeopleOf = Callable[[ChatServer], People]


async def test_a_refused_message_stays_in_the_list_until_it_is_sent_again_or_discarded(
    people: People, chatter: Opener
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await opened(await chatter(alice), talk)

    key = await desk.says(talk, "x" * 10_001)
    await desk.says(talk, "Shorter")
    seen = await desk.sees(
        talk, lambda snapshot: len(snapshot["messages"]) == 2 and seqs(snapshot) == [1, None]
    )
    failed = seen["messages"][1]
    assert (failed["state"], failed["error"]["code"]) == ("failed", "VALIDATION_FAILED")
    await desk.do("retry", talk, key)
    await desk.sees(talk, lambda snapshot: snapshot["messages"][1]["state"] == "failed")
    await desk.do("discard", talk, key)
    await desk.sees(talk, lambda snapshot: seqs(snapshot) == [1])
    with pytest.raises(No) as refused:
        await desk.do("edit", talk, "no-such-message", "New text")
    assert refused.value.code == "NOT_FOUND"


async def test_offline_messages_survive_the_page_and_are_sent_in_order(
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

    # A new client of Alice with the same storage sends the messages.
    phone = await opened(await chatter(bob), talk)
    again = await chatter(alice, file=str(file))
    await opened(again, talk)
    seen = await phone.sees(talk, lambda snapshot: len(snapshot["messages"]) == 5)
    assert texts(seen) == [f"line {n}" for n in range(5)]
    await again.sees(talk, lambda snapshot: seqs(snapshot) == [1, 2, 3, 4, 5])
    assert file.read_text() == "[]"


async def test_the_rate_limit_delays_sends_and_keeps_their_order(
    start: Starter, people_of: PeopleOf, chatter: Opener
) -> None:
    server = await start(RATE_LIMITS="on")
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = await opened(await chatter(alice), talk)
    # Another device has used up her burst, however slow this machine is.
    phone, elsewhere = await Wire.connect(alice), await alice.group(bob)
    sending = [
        await phone.ask("message:send", {"conversationId": elsewhere["id"], "content": "Hello"})
        for _ in range(150)
    ]
    await asyncio.gather(*sending)
    before = server.log.count('"RATE_LIMITED"')
    lines = [f"line {n}" for n in range(40)]
    assert await desk.begin("sendAll", talk, {"texts": lines}) == 40
    seen = await desk.look(talk)
    assert texts(seen) == lines
    assert seqs(seen) == list(range(1, 41))
    assert server.log.count('"RATE_LIMITED"') > before > 0


async def test_a_message_too_long_for_a_packet_fails_alone(people: People, chatter: Opener) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await opened(await chatter(alice), talk)
    # If it were sent, the server would close the connection, again with each repeat.
    await desk.says(talk, "x" * 300_000)
    await desk.says(talk, "Shorter")
    seen = await desk.sees(talk, lambda snapshot: seqs(snapshot) == [1, None])
    failed = seen["messages"][1]
    assert (failed["state"], failed["error"]["code"]) == ("failed", "PAYLOAD_TOO_LARGE")
    # 60,000 bytes: short enough for a packet, so the client sends it, and the server refuses it.
    await desk.says(talk, "€" * 20_000)
    seen = await desk.sees(
        talk,
        lambda snapshot: [m["state"] for m in snapshot["messages"]] == ["sent", *["failed"] * 2],
    )
    assert seen["messages"][2]["error"]["code"] == "VALIDATION_FAILED"
    assert [state["status"] for state in desk.states] == ["connecting", "online"]
