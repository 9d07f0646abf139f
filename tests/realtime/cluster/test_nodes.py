"""Nodes freeze, start and die while people talk; Redis is replaced or down."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

from tests.support.browsers import Browser
from tests.support.patience import PATIENCE_S, slowness
from tests.support.people import People, Person
from tests.support.people_on_nodes import Spread, spread
from tests.support.raw import Wire, history, when
from tests.support.redises import Keeping, RedisServer, SentinelServer
from tests.support.redises import Wire as Cable
from tests.support.servers import chat_server
from tests.support.steady_talk import (
    Stream,
    all_is_right,
    begin,
    end,
    heard_settles,
    repeat_refused,
)
from tests.support.talkers import Patient, everything, talk_on

FROZEN_S = 20
Starter = Callable[..., Awaitable[tuple[Spread, People]]]


@pytest_asyncio.fixture
async def start_nodes(mongo_url: str, worker: str, tmp_path: Path) -> AsyncIterator[Starter]:
    """Start nodes for this test only, with their people: `await start_nodes(redis)`."""
    async with AsyncExitStack() as stack:

        async def start(redis: RedisServer, **settings: str) -> tuple[Spread, People]:
            database = f"{worker}-nodes-{time.time_ns()}"
            nodes = await stack.enter_async_context(
                spread(mongo_url, redis.url, database, tmp_path, **settings)
            )
            session = await stack.enter_async_context(aiohttp.ClientSession())
            people = People(nodes.servers[0], session, nodes)
            stack.push_async_callback(people.go_home)
            return nodes, people

        yield start


async def all_agree(talk: Any, talkers: list[Patient], reader: Person) -> list[Any]:
    """Check that each talker has every message once and in order, and that each of its own was stored once.
    Returns all messages."""
    log = await history(reader, talk)
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    for talker in talkers:
        assert await talker.finish() == log
        assert len(talker.heard) == len(set(talker.heard))
        mine = [message["content"] for message in log if message["senderId"] == talker.person.id]
        if talker.under_way:
            assert mine == [f"{n}" for n in range(talker.said)]
            assert sorted(talker.acked) == list(range(talker.said))
    return log


async def test_a_node_that_was_frozen_catches_up_on_everything(
    own_redis: RedisServer, start_nodes: Starter
) -> None:
    nodes, people = await start_nodes(own_redis, LOG_LEVEL="warning")
    alice, bob, carol, dave, erin = people("alice", "bob", "carol", "dave", "erin")
    talk = await alice.group(bob, carol, dave, erin)
    # On the node that freezes, one message at a time: a refused message is sent again after later ones.
    talkers = [
        Patient(person.at(nodes.servers[n]), talk, 1 if n == 2 else 4)
        for n, person in enumerate((alice, bob, carol))
    ]
    listeners = [Patient(dave.at(nodes.servers[n]), talk, 0) for n in range(3)]
    erins = await Wire.connect(erin.at(nodes.servers[2]))
    running = [asyncio.create_task(member.run()) for member in (*talkers, *listeners)]
    await asyncio.sleep(1)
    nodes.servers[2].signal(signal.SIGSTOP)
    await asyncio.sleep(2)
    began = time.monotonic()
    await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{erin.id}")
    assert time.monotonic() - began < 3 * slowness(), "a removal does not wait for a frozen node"
    last = (await alice.ask("GET", f"/conversations/{talk['id']}"))["lastSeq"]
    # A node that wakes up must not answer these requests from memory.
    late = [
        await erins.ask("messages:sync", {"conversationId": talk["id"], "afterRev": 0}),
        await erins.say(talk, "Me too"),
        await erins.ask("typing:start", {"conversationId": talk["id"]}),
    ]
    await asyncio.sleep(FROZEN_S - 3)
    nodes.servers[2].signal(signal.SIGCONT)
    woken = time.monotonic()
    for answer in await asyncio.gather(*late):
        # The database may be slow to answer a node that has just woken up.
        assert answer is None or answer["error"]["code"] in ("NOT_FOUND", "UNAVAILABLE")
    await asyncio.sleep(1.5)
    for member in (*talkers, *listeners):
        member.stopping = True
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*running)
    log = await all_agree(talk, [*talkers, *listeners], alice)
    assert time.monotonic() - woken < 15 * slowness()
    assert len(log) > 500
    assert all(message["seq"] <= last for message in erins.told("message:new"))
    heard = [event for who in (*talkers, *listeners) for wire in who.wires for event in wire.heard]
    assert not any(name == "user:typing" and said["userId"] == erin.id for name, said in heard)
    assert "the node stalled" in nodes.servers[2].log


async def test_nodes_are_replaced_one_after_another_and_one_is_added(
    mongo_url: str, own_redis: RedisServer, start_nodes: Starter, tmp_path: Path
) -> None:
    nodes, people = await start_nodes(own_redis, LOG_LEVEL="warning", DRAIN_S="1")
    alice, bob, carol, dave, erin, frank = people("alice", "bob", "carol", "dave", "erin", "frank")
    talk = await alice.group(bob, carol, dave, erin, frank)
    # The official client on two nodes: one upgrades to WebSocket, the other starts with it.
    guests = [dave, erin]
    browsers = [
        await Browser.open(person.at(nodes.servers[n]), *transports)
        for n, (person, transports) in enumerate(zip(guests, ([], ["websocket"]), strict=True))
    ]
    for browser in browsers:
        await browser.hears("connected")
    said: list[list[Any]] = [[], []]
    stop = asyncio.Event()
    talkers = [
        Patient(person.at(nodes.servers[n]), talk, 2)
        for n, person in enumerate((alice, bob, carol))
    ]
    running = [asyncio.create_task(talker.run()) for talker in talkers]
    for browser, acked in zip(browsers, said, strict=True):
        running.append(asyncio.create_task(talk_on(browser, talk, acked, stop)))
    await asyncio.sleep(0.5)

    first = nodes.servers[0].env
    settings = {"REDIS_URL": own_redis.url, "LOG_LEVEL": "warning"}
    async with chat_server(
        mongo_url, first["MONGO_DATABASE"], tmp_path / "log-added", **settings
    ) as added:
        nodes.servers.append(added)
        newcomer = Patient(frank.at(nodes.servers[3]), talk, 2)
        talkers.append(newcomer)
        running.append(asyncio.create_task(newcomer.run()))
        for server in nodes.servers[:3]:
            assert await server.stop() == 0
            await server.start()
            await asyncio.sleep(0.5)
        for browser in browsers:
            await browser.hears("client:disconnect")
            await browser.hears("connected")
        await asyncio.sleep(0.5)
        stop.set()
        for talker in talkers:
            talker.stopping = True
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*running)
        log = await all_agree(talk, talkers, frank)
        for browser, guest, acked in zip(browsers, guests, said, strict=True):
            mine = [message["content"] for message in log if message["senderId"] == guest.id]
            assert mine == [f"{n}" for n in range(len(mine))]
            assert [message["content"] for message in acked] == mine
            assert len(mine) > 20
            assert await everything(browser, talk) == log
        assert [len(talker.codes) for talker in talkers] == [1, 1, 1, 0]
        assert newcomer.said > 50
        nodes.servers.remove(added)
        await newcomer.wire.close()


async def test_a_typing_indicator_of_a_node_that_dies_ends_everywhere(
    own_redis: RedisServer, start_nodes: Starter
) -> None:
    nodes, people = await start_nodes(own_redis)
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    desk = await Wire.connect(alice.at(nodes.servers[0]))
    phones = [await Wire.connect(bob.at(nodes.servers[n])) for n in (1, 2)]
    await desk.do("typing:start", {"conversationId": talk["id"]})
    for phone in phones:
        await phone.until(lambda phone=phone: phone.told("user:typing"))
    victim = nodes.servers.pop(0)
    await victim.kill()
    for phone in phones:
        await phone.until(lambda phone=phone: len(phone.told("user:typing")) == 2)
    await nodes.settled()
    for phone in phones:
        assert [payload["isActive"] for payload in phone.told("user:typing")] == [True, False]


async def test_a_failover_by_sentinels_under_load_loses_nothing(
    redis_of: Keeping, start_nodes: Starter, tmp_path: Path
) -> None:
    master, replica = await redis_of(), await redis_of()
    async with replica.client() as client:
        await client.replicaof("127.0.0.1", master.port)
    sentinel = SentinelServer(tmp_path / "sentinel", master)
    await sentinel.start()
    try:
        await sentinel.knows_a_replica()
        nodes, people = await start_nodes(master, LOG_LEVEL="warning", REDIS_URL=sentinel.url)
        talk, listener, streams, changer, running = await begin(people)
        await asyncio.sleep(0.5)
        await master.kill()
        await nodes.joined(replica)
        await asyncio.sleep(0.5)
        await end(streams, running)
        await repeat_refused(streams)
        for wire in [listener, *[stream.wire for stream in streams]]:
            await heard_settles(wire, listener.person, talk, 10)
            await all_is_right(wire, listener.person, streams, changer, repeats_in_order=False)
    finally:
        await sentinel.stop()


async def test_a_node_without_redis_is_ready_and_reports_the_problem(
    own_redis: RedisServer, start_nodes: Starter
) -> None:
    nodes, people = await start_nodes(own_redis)
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    desk = await Wire.connect(alice.at(nodes.servers[0]))
    phone = await Wire.connect(bob.at(nodes.servers[0]))

    async def seen(path: str) -> tuple[int, str]:
        async with people.session.get(nodes.servers[0].rest + path) as answer:
            return answer.status, await answer.text()

    async def is_up() -> str:
        _, text = await seen("/metrics")
        return next(
            line.split()[-1] for line in text.splitlines() if line.startswith("chat_bus_up")
        )

    async def becomes(up: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if float(await is_up()) == float(up):
                    return
                await asyncio.sleep(0.05)

    await becomes("1")
    await own_redis.kill()
    await becomes("0")
    stream = Stream(desk, talk)
    for _ in range(20):
        assert (await seen("/ready"))[0] == 200
        await stream.say()
        await asyncio.sleep(0.05)
    await asyncio.gather(*stream.asked)
    assert (stream.failed(), await is_up()) == ([], "0.0")
    assert desk.slowest < 1 * slowness()
    await phone.until(lambda: len(phone.told("message:new")) == 20)
    assert nodes.servers[0].log.count("not connected to the other nodes") >= 1
    await own_redis.start()
    await becomes("1")
    assert nodes.servers[0].log.count("connected to the other nodes again") == 1


async def test_messages_of_a_node_that_is_cut_off_reach_the_others(
    own_redis: RedisServer, wire: Cable, mongo_url: str, worker: str, tmp_path: Path
) -> None:
    database = f"{worker}-cut-{time.time_ns()}"
    async with (
        chat_server(mongo_url, database, tmp_path / "1", REDIS_URL=own_redis.url) as joined,
        chat_server(mongo_url, database, tmp_path / "2", REDIS_URL=wire.url) as cut,
        aiohttp.ClientSession() as session,
    ):
        alice, bob = People(joined, session)("alice", "bob")
        talk = await alice.group(bob)
        phone = await Wire.connect(bob)
        desk = await Wire.connect(Person(cut, alice.id, session))
        await (await desk.say(talk, "Before"))
        await phone.until(lambda: phone.told("message:new"))
        wire.hold()
        try:
            answer = await (await desk.say(talk, "Cut off"))
            assert answer is not None
            assert answer["ok"]
            await phone.until(lambda: len(phone.told("message:new")) == 2, 10)
            # This works for as long as the node is cut off.
            await (await desk.say(talk, "Still cut off"))
            await phone.until(lambda: len(phone.told("message:new")) == 3, 10)
        finally:
            wire.release()
        await asyncio.gather(desk.close(), phone.close())


async def test_a_user_added_while_redis_is_down_receives_a_room_that_started_for_another(
    own_redis: RedisServer, start_nodes: Starter
) -> None:
    nodes, people = await start_nodes(own_redis)
    alice, *others = people("alice", *["bob"] * 12)
    desk = await Wire.connect(alice.at(nodes.servers[0]))
    bobs, carols = others[:6], others[6:]
    phones = [await Wire.connect(person.at(nodes.servers[1])) for person in bobs]
    await own_redis.kill()
    await asyncio.sleep(0.3)
    talks, tablets = [], []
    for bob, carol in zip(bobs, carols, strict=True):
        talk = await alice.at(nodes.servers[0]).group(carol)
        here = f"/conversations/{talk['id']}"
        await alice.at(nodes.servers[0]).ask("POST", f"{here}/participants", {"userIds": [bob.id]})
        # The room starts on bob's node before a catch-up has found bob.
        tablets.append(await Wire.connect(carol.at(nodes.servers[1])))
        talks.append(talk)
    for phone, talk in zip(phones, talks, strict=True):
        await phone.until(lambda phone=phone: phone.told("conversation:joined"), 10)
        await (await desk.say(talk, "Welcome"))
    await own_redis.start()
    for wire in (*phones, *tablets):
        await wire.until(lambda wire=wire: wire.told("message:new"), 10)
    await when(lambda: all(len(wire.told("message:new")) == 1 for wire in (*phones, *tablets)))
    await nodes.settled()
    for phone, talk in zip(phones, talks, strict=True):
        await phone.do("ping")
        assert [view["id"] for view in phone.told("conversation:joined")] == [talk["id"]]
