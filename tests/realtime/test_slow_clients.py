"""A client that reads nothing, or sends too much, costs the server little and the other clients nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import Starter
from tests.support.bare import BareSocket, Polling, event
from tests.support.exposition import samples, scrape
from tests.support.people import People, presence
from tests.support.process_memory import memory_mb
from tests.support.raw import LONG, Wire, history, when
from tests.support.servers import ChatServer


async def is_served(wire: Wire, talk: dict[str, Any], stop: asyncio.Event) -> None:
    """An uninvolved client sends one message after another, and never waits long."""
    waits: list[float] = []
    while not stop.is_set():
        began = time.monotonic()
        answer = await (await wire.say(talk, "Are you there?"))
        waits.append(time.monotonic() - began)
        assert answer is not None
        assert answer["ok"]
        await asyncio.sleep(0.005)
    assert len(waits) > 5
    assert sorted(waits)[len(waits) * 9 // 10] < 0.5


async def test_a_client_that_does_not_read_is_disconnected_and_no_other_notices(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(LOG_LEVEL="warning")
    people = people_of(server)
    alice, bob, carol = people("alice", "bob", "carol")
    lazy = people(*[f"lazy{n}" for n in range(6)])
    talk = await alice.group(bob, carol, *lazy)
    quiet = await bob.direct(carol)
    desk, listener, friend = [await Wire.connect(person) for person in (alice, bob, carol)]
    sleepers = [await BareSocket.connect(person, receive_buffer=4096) for person in lazy[:5]]
    poller = await Polling.connect(lazy[5])
    before = memory_mb(server)
    stop = asyncio.Event()
    elsewhere = asyncio.create_task(is_served(listener, quiet, stop))
    # 16 MB for each of them, part of which the kernel buffers.
    peak = before
    for _ in range(20):
        answers = await asyncio.gather(*[await desk.say(talk, LONG) for _ in range(20)])
        assert all(answer and answer["ok"] for answer in answers)
        peak = max(peak, memory_mb(server))
    stop.set()
    await elsewhere
    # Not by `user:offline`: presence is volatile, and the listener itself has megabytes to read.
    await asyncio.gather(*[presence(alice, person.id, "offline") for person in lazy])
    assert {payload["userId"] for payload in listener.told("user:offline")} <= {
        person.id for person in lazy
    }
    assert (await poller.get())[0] == 400
    now = samples(await scrape(server))
    assert now["chat_connections_closed_total too slow"] == 6, "the metric counts them"
    for wire in (desk, listener, friend):
        await wire.caught_up()
        sent = [
            message
            for message in wire.told("message:new")
            if message["conversationId"] == talk["id"]
        ]
        assert [message["seq"] for message in sent] == list(range(1, 401))
        assert not wire.gone.is_set()
    assert peak - before < 60, "not the 100 MB that were not read"

    # A disconnected client reconnects and gets everything.
    back = await Wire.connect(lazy[0])
    page = await back.do("messages:sync", {"conversationId": talk["id"], "afterRev": 390})
    assert [message["seq"] for message in page["messages"]] == list(range(391, 401))
    for sleeper in sleepers:
        sleeper.abort()


async def test_typing_is_not_kept_for_a_client_that_does_not_read(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Volatile packets are dropped first. They never cause a client to be disconnected."""
    server = await start(LOG_LEVEL="warning", TYPING_TIMEOUT_S="60")
    people = people_of(server)
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, poller = await Wire.connect(alice), await Polling.connect(bob)
    where = {"conversationId": talk["id"]}
    for _ in range(1500):
        await desk.ask("typing:start", where)
        await desk.ask("typing:stop", where)
    await desk.caught_up()
    sent = (await (await desk.say(talk, "Worth it")))["data"]
    await poller.poll_for('42["message:new"')
    typing = [packet for packet in poller.packets if packet.startswith('42["user:typing"')]
    assert 100 < len(typing) < 2900, "some arrived, the rest were dropped"
    assert any(
        sent["id"] in packet for packet in poller.packets if packet.startswith('42["message:new"')
    )
    assert (await history(bob, talk))[0] == sent
    now = samples(await scrape(server))
    # Presence events may have been dropped, too.
    assert 0 <= now["chat_fleeting_dropped_total"] - (3000 - len(typing)) <= 2


async def test_thousands_of_events_are_answered_in_order_and_slow_down_no_other_client(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(LOG_LEVEL="warning")
    people = people_of(server)
    mallory, alice, bob = people("mallory", "alice", "bob")
    talk, quiet = await mallory.group(alice), await alice.direct(bob)
    flood, desk = await BareSocket.connect(mallory), await Wire.connect(alice)
    before = memory_mb(server)
    count = 4000
    payload = {"conversationId": talk["id"], "content": "x" * 500}
    stop = asyncio.Event()
    acks: list[bytes] = []

    async def read_acks() -> None:
        while len(acks) < 2 * count:
            _, data = await flood.frame()
            if data.startswith(b"43"):
                acks.append(data)
            elif data == b"2":
                await flood.write("3")

    elsewhere = asyncio.create_task(is_served(desk, quiet, stop))
    reading = asyncio.create_task(read_acks())
    for n in range(count):
        # A client that falls too far behind in reading would be disconnected.
        if 2 * n - len(acks) > 1000:
            await when(lambda n=n: 2 * n - len(acks) < 500)
        await flood.write(event(2 * n, "message:send", payload))
        await flood.write(event(2 * n + 1, "reaction:add", {"messageId": "none", "emoji": "x"}))
    await asyncio.wait_for(reading, 60)
    stop.set()
    await elsewhere
    sends = [ack for ack in acks if int(ack[2:].partition(b"[")[0]) % 2 == 0]
    assert [int(ack[2:].partition(b"[")[0]) for ack in sends] == list(range(0, 2 * count, 2))
    assert all(ack.split(b"[", 1)[1].startswith(b'{"ok":true') for ack in sends)
    assert memory_mb(server) - before < 40
    assert [message["seq"] for message in await history(alice, talk)] == list(range(1, count + 1))
    flood.abort()
