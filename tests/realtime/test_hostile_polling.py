"""Long polling and its upgrade, with clients that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from tests.conftest import Starter
from tests.support.bare import SEPARATOR, Polling, event, hello
from tests.support.exposition import connections
from tests.support.people import People
from tests.support.raw import Wire, history
from tests.support.servers import ChatServer


@pytest.fixture
async def crowd(start: Starter, people_of: Callable[[ChatServer], People]) -> People:
    """People on a server whose log must not contain a traceback."""
    return people_of(await start(LOG_LEVEL="warning"))


async def test_a_body_with_many_packets_loses_none(crowd: People) -> None:
    alice, bob = crowd("alice", "bob")
    talk = await alice.direct(bob)
    polling = await Polling.connect(alice)
    packets = [
        event(n, "message:send", {"conversationId": talk["id"], "content": f"{n} " + "x" * 300})
        for n in range(300)
    ]
    body = SEPARATOR.join(packets).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 30_000):
            yield body[at : at + 30_000]
            await asyncio.sleep(0.01)

    assert (await polling.post(in_pieces(), **{"Content-Length": str(len(body))}))[0] == 200
    acks = await polling.poll_for("43", 300)
    assert sorted(int(ack[2:].partition("[")[0]) for ack in acks) == list(range(300))
    assert all('"ok":true' in ack for ack in acks)
    log = await history(bob, talk)
    assert [message["content"].split()[0] for message in log] == [f"{n}" for n in range(300)]
    told = [json.loads(packet[2:])[1] for packet in await polling.poll_for('42["message:new"', 300)]
    assert told == log


async def test_a_body_without_a_length_is_read_or_refused_but_not_lost(crowd: People) -> None:
    alice, bob = crowd("alice", "bob")
    talk = await alice.direct(bob)
    polling = await Polling.connect(alice)

    async def chunks() -> AsyncIterator[bytes]:
        yield event(1, "message:send", {"conversationId": talk["id"], "content": "x"}).encode()

    status, _ = await polling.post(chunks())
    if status == 200:
        assert '"ok":true' in (await polling.poll_for("431"))[0]
    else:
        assert status in (400, 411, 413)
        assert await history(bob, talk) == []


async def test_no_body_does_harm(crowd: People) -> None:
    mallory, alice = crowd("mallory", "alice")
    await alice.direct(mallory)
    listener = await Wire.connect(alice)
    bodies = [
        *(
            b"",
            b"x",
            b"\xff\xfe",
            b"4\xff",
            b"\x1e",
            b"\x1e" * 1000,
            b"d=",
            b"d=4",
            b"dx",
            b"7",
            b"0",
            b"5",
            b"2probe",
        ),
        *(
            b"b",
            b"bx",
            b"bAAAA",
            b"b====",
            b"4{",
            b"4[]",
            b"4null",
            b"42",
            b"42[",
            b"43[]",
            b"45",
            b"451-[]",
        ),
        *(
            b"459999999999-[]",
            b"40",
            b"40{",
            b"41",
            b"1",
            b"4" * 200_000,
            b"3" + b"\x1e3" * 50_000,
            b"x" * 300_000,
        ),
    ]

    async def throw(body: bytes, *, introduced: bool) -> None:
        polling = await (Polling.connect(mallory) if introduced else Polling.open(mallory))
        status, _ = await polling.post(body)
        assert status == 200 or 400 <= status < 500, (body[:20], status)
        status, answer = await polling.post(event(7, "ping"))
        assert status in (200, 400), (body[:20], answer)
        await polling.post("1")

    for introduced in (True, False):
        for at in range(0, len(bodies), 10):
            await asyncio.gather(
                *[throw(body, introduced=introduced) for body in bodies[at : at + 10]]
            )
    await listener.until(lambda: listener.told("user:offline"))
    assert (await alice.ask("GET", f"/users/{mallory.id}/presence"))["status"] == "offline"
    assert "Traceback" not in crowd.server.log


async def test_a_polling_client_that_closes_while_connecting_is_offline(crowd: People) -> None:
    mallory, alice = crowd("mallory", "alice")
    await alice.direct(mallory)
    listener = await Wire.connect(alice)
    for delay in range(10):
        polling = await Polling.open(mallory)
        if delay < 3:
            await polling.post(hello(mallory) + SEPARATOR + "1")
            continue
        coming = asyncio.create_task(polling.post(hello(mallory)))
        await asyncio.sleep(delay * 0.001)
        await polling.post("1")
        await coming
    again = await Polling.connect(mallory)
    await listener.until(lambda: listener.told("user:online"))
    await again.post("1")
    await listener.until(
        lambda: len(listener.told("user:offline")) == len(listener.told("user:online"))
    )
    assert (await alice.ask("GET", f"/users/{mallory.id}/presence"))["status"] == "offline"
    assert await connections(crowd.server) == 1


async def test_an_abandoned_upgrade_does_not_end_the_polling(crowd: People) -> None:
    alice, bob = crowd("alice", "bob")
    talk = await alice.direct(bob)
    desk, polling = await Wire.connect(alice), await Polling.connect(bob)
    for words in ([], ["2probe"], ["2probe", "2probe"], ["x"], ["2other"], ["4"], ['42["ping"]']):
        async with crowd.session.ws_connect(polling.upgrade_url) as probe:
            for word in words:
                await probe.send_str(word)
            if words == ["2probe"]:
                assert await probe.receive_str() == "3probe"
        sent = (await (await desk.say(talk, str(words))))["data"]
        told = await polling.poll_for('42["message:new"')
        assert json.loads(told[-1][2:])[1] == sent
        polling.packets.clear()

    # A real upgrade: the waiting packets arrive first.
    async with crowd.session.ws_connect(polling.upgrade_url) as websocket:
        await websocket.send_str("2probe")
        assert await websocket.receive_str() == "3probe"
        first = (await (await desk.say(talk, "first")))["data"]
        await websocket.send_str("5")
        second = (await (await desk.say(talk, "second")))["data"]
        assert json.loads((await websocket.receive_str())[2:]) == ["message:new", first]
        assert json.loads((await websocket.receive_str())[2:]) == ["message:new", second]
        assert (await polling.get())[0] == 400
        assert (await polling.post(event(1, "ping")))[0] == 400


async def test_a_session_has_one_websocket(crowd: People) -> None:
    alice, bob = crowd("alice", "bob")
    talk = await alice.direct(bob)
    desk, polling = await Wire.connect(alice), await Polling.connect(bob)
    async with crowd.session.ws_connect(polling.upgrade_url) as first:
        async with crowd.session.ws_connect(polling.upgrade_url) as second:
            assert (await second.receive(timeout=2)).data == 1008
        await first.send_str("2probe")
        assert await first.receive_str() == "3probe"
        await first.send_str("5")
        async with crowd.session.ws_connect(polling.upgrade_url) as second:
            assert (await second.receive(timeout=2)).data == 1008
        sent = (await (await desk.say(talk, "To the first")))["data"]
        # Other users may have come online before.
        while (heard := json.loads((await first.receive_str())[2:]))[0] == "user:online":
            assert heard[1]["userId"] == alice.id
        assert heard == ["message:new", sent]
    assert "Traceback" not in crowd.server.log


async def test_two_polls_at_the_same_time_end_the_session_and_lose_nothing(crowd: People) -> None:
    """The protocol requires it, because two polls would have no order. The client connects again."""
    alice, bob = crowd("alice", "bob")
    talk = await alice.direct(bob)
    desk, polling = await Wire.connect(alice), await Polling.connect(bob)
    polls = [asyncio.create_task(polling.get()) for _ in range(3)]
    assert sorted([(await poll)[0] for poll in polls]) == [200, 400, 400]
    assert (await polling.get())[0] == 400
    sent = [(await (await desk.say(talk, f"{n}")))["data"] for n in range(3)]
    again = await Polling.connect(bob)
    sync = {"conversationId": talk["id"], "afterSeq": 0}
    assert (await again.post(event(1, "messages:sync", sync)))[0] == 200
    (answer,) = await again.poll_for("431")
    assert json.loads(answer[3:])[0]["data"]["messages"] == sent
