"""Without a database, every caller gets an error in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Starter
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.raw import Wire
from tests.support.servers import ChatServer, MongoServer


async def test_no_caller_waits_behind_the_time_outs_of_others(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Each caller gets UNAVAILABLE within 5 s, however many requests are waiting before it."""
    people = people_of(await start(own_mongo.url))
    alice, *friends = people("alice", *[f"friend{n}" for n in range(10)])
    talks = [await alice.direct(person) for person in friends]
    wires = [await Wire.connect(person) for person in friends]
    sent = [
        (await (await wire.say(talk, "x")))["data"] for wire, talk in zip(wires, talks, strict=True)
    ]
    own_mongo.signal(signal.SIGSTOP)
    asked = []
    for wire, talk, message in zip(wires, talks, sent, strict=True):
        # One batch after another, and on each socket one request after another.
        asked.append(await wire.say(talk, "y"))
        for text in ("1", "2", "3"):
            asked.append(
                await wire.ask("message:edit", {"messageId": message["id"], "content": text})
            )
        asked.append(await wire.ask("messages:sync", {"conversationId": talk["id"], "afterRev": 0}))
        await asyncio.sleep(0.1)
    # One client sends everything at the same time.
    asked += [await wires[0].say(talks[0], f"{n}") for n in range(500)]
    answers = await asyncio.gather(*asked)
    own_mongo.signal(signal.SIGCONT)
    assert {answer and answer["error"]["code"] for answer in answers} == {"UNAVAILABLE"}
    assert max(wire.slowest for wire in wires) < 5.2 * slowness()


async def test_a_user_who_reconnects_while_going_offline_is_recorded_is_online(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(own_mongo.url, PRESENCE_GRACE_S="0"))
    alice, bob, carol = people("alice", "bob", "carol")
    await alice.group(bob, carol)
    listener = await Wire.connect(alice)
    phone = await Wire.connect(bob)
    await listener.until(lambda: listener.told("user:online"))
    for _ in range(3):
        await phone.close()
        await asyncio.sleep(0.1)
        own_mongo.signal(signal.SIGSTOP)
        await asyncio.sleep(0.2)
        coming = asyncio.create_task(Wire.connect(bob))
        await asyncio.sleep(0.05)
        own_mongo.signal(signal.SIGCONT)
        phone = await coming
        await asyncio.sleep(0.5)
        assert (await alice.ask("GET", f"/users/{bob.id}/presence"))["status"] == "online"
        told = [
            name
            for name, payload in listener.heard
            if name.startswith("user:o") and payload["userId"] == bob.id
        ]
        assert told == ["user:online", "user:offline"] * (len(told) // 2) + ["user:online"]
    await Wire.connect(carol)
    await listener.until(
        lambda: carol.id in {payload["userId"] for payload in listener.told("user:online")}
    )


async def test_the_server_does_not_start_without_a_database(tmp_path: Path) -> None:
    nowhere = ChatServer("mongodb://127.0.0.1:1/?replicaSet=tests", "x", tmp_path / "log")
    with pytest.raises(AssertionError, match="MongoDB is not available"):
        await nowhere.start()
    assert nowhere.process.returncode == 1
    assert "Traceback" not in nowhere.log


async def test_a_server_whose_database_is_down_still_stops(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(own_mongo.url)
    people = people_of(server)
    alice, bob = people("alice", "bob")
    desk = await Wire.connect(alice)
    talk = await alice.direct(bob)
    assert (await (await desk.say(talk, "x")))["ok"]
    own_mongo.signal(signal.SIGSTOP)
    answer = await desk.say(talk, "y")
    began = time.monotonic()
    assert await server.stop() == 0
    assert time.monotonic() - began < 12 * slowness()
    assert await answer is None
    own_mongo.signal(signal.SIGCONT)
    with pytest.raises(aiohttp.ClientError):
        await alice.ask("GET", "/conversations")


async def test_a_server_that_stops_while_going_offline_is_recorded_stops_cleanly(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(own_mongo.url, PRESENCE_GRACE_S="0")
    alice, bob = people_of(server)("alice", "bob")
    await alice.direct(bob)
    desk, phone = await Wire.connect(alice), await Wire.connect(bob)
    await desk.until(lambda: desk.told("user:online"))
    own_mongo.signal(signal.SIGSTOP)
    await phone.close()
    await asyncio.sleep(0.5)
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0.5)
    own_mongo.signal(signal.SIGCONT)
    assert await stopping == 0
    assert not desk.told("user:offline")
