"""Nodes exchange messages over Redis, and learn when they may have missed some."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from tests.support.nodes_of_a_bus import Joining, Node, until
from tests.support.patience import PATIENCE_S
from tests.support.redises import RedisServer


async def test_a_message_reaches_every_subscribed_node(node: Joining, redis_url: str) -> None:
    oslo, lima, rome = [await node(redis_url, "all:") for _ in range(3)]
    for peer in (oslo, lima):
        assert await peer.bus.subscribe("r:1") is True
        assert await peer.bus.subscribe("r:1") is True
    assert await rome.says("r:1", b"Anybody there?") == 2
    assert await rome.says("r:2", b"And here?") == 0
    await until(lambda: oslo.received and lima.received)
    assert oslo.received == lima.received == [("r:1", b"Anybody there?")]
    assert not rome.received
    assert (rome.bus.published, oslo.bus.received, rome.bus.dropped) == (2, 1, 0)


async def test_a_node_receives_its_own_messages(node: Joining, redis_url: str) -> None:
    oslo = await node(redis_url, "oneself:")
    await oslo.bus.subscribe("r:1")
    assert await oslo.says("r:1", b"Echo?") == 1
    await until(lambda: oslo.received)


async def test_a_channel_is_received_until_it_is_unsubscribed(
    node: Joining, redis_url: str
) -> None:
    oslo, lima = [await node(redis_url, "until:") for _ in range(2)]
    await oslo.bus.subscribe("r:1")
    lima.bus.publish("r:1", b"Bye?")
    await until(lambda: oslo.received)
    oslo.bus.unsubscribe("r:1")
    lima.bus.publish("r:1", b"Still there?")
    await asyncio.sleep(0.1)
    assert await lima.says("r:1", b"Hello?") == 0
    assert oslo.received == [("r:1", b"Bye?")]


async def test_the_last_subscribe_or_unsubscribe_of_a_channel_wins(
    node: Joining, redis_url: str
) -> None:
    oslo, lima = [await node(redis_url, "word:") for _ in range(2)]
    first = oslo.bus.subscribe("r:1")
    oslo.bus.unsubscribe("r:1")
    second = oslo.bus.subscribe("r:1")
    oslo.bus.unsubscribe("r:2")
    assert (await first, await second) == (False, True)
    assert await lima.says("r:1", b"Are you in?") == 1
    # Over several turns of the event loop, while commands are in flight.
    oslo.bus.unsubscribe("r:1")
    await asyncio.sleep(0)
    third = oslo.bus.subscribe("r:1")
    await asyncio.sleep(0)
    oslo.bus.unsubscribe("r:1")
    await asyncio.sleep(0)
    fourth = oslo.bus.subscribe("r:1")
    assert (await third, await fourth) == (False, True)
    assert await lima.says("r:1", b"And now?") == 1


async def test_20_000_messages_arrive_once_each_and_in_order(node: Joining, redis_url: str) -> None:
    oslo, lima = nodes = [await node(redis_url, "order:") for _ in range(2)]
    for peer in nodes:
        await asyncio.gather(*(peer.bus.subscribe(f"r:{room}") for room in range(4)))
    said = {oslo: b"oslo", lima: b"lima"}
    for number in range(10_000):
        for peer, name in said.items():
            peer.bus.publish(f"r:{number % 4}", b"%b %d" % (name, number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    await until(lambda: all(len(peer.received) >= 20_000 for peer in nodes), 20)
    for peer in nodes:
        assert len(peer.received) == 20_000
        for name in said.values():
            for room in range(4):
                received = [
                    message
                    for channel, message in peer.received
                    if channel == f"r:{room}" and message.startswith(name)
                ]
                assert received == [b"%b %d" % (name, n) for n in range(room, 10_000, 4)]


async def test_all_messages_of_one_turn_leave_in_one_write(
    node: Joining, own_redis: RedisServer
) -> None:
    oslo = await node(own_redis.url)
    async with own_redis.client() as redis:
        before = (await redis.info("stats"))["total_reads_processed"]
        for number in range(500):
            oslo.bus.publish("r:1", b"%d" % number)
        await oslo.says("r:1", b"the last")
        after = (await redis.info("stats"))["total_reads_processed"]
    # The two INFO commands, the write, and heartbeats.
    assert after - before < 10


async def test_a_failing_receiver_does_not_affect_the_next_message(
    node: Joining, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    oslo = await node(redis_url, "fails:")
    await oslo.bus.subscribe("r:1")

    def fails(receivers: int) -> None:
        raise ValueError("the teller fails")

    oslo.bus.publish("r:1", b"poison", fails)
    assert await oslo.says("r:1", b"cure") == 1
    await until(lambda: oslo.received == [("r:1", b"cure")])
    assert "the receiver fails" in caplog.text
    assert "the teller fails" in caplog.text
    assert oslo.bus.up


async def test_databases_have_separate_channels(node: Joining, redis_url: str) -> None:
    oslo, lima = await node(redis_url + "/1", "db:"), await node(redis_url + "/2", "db:")
    await oslo.bus.subscribe("r:1")
    assert await lima.says("r:1", b"Same Redis, other chat.") == 0


async def test_a_busy_node_is_not_cut_off(
    node: Joining, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.realtime.bus.connection_pair.BEAT_S", 0.05)
    oslo = await node(redis_url, "busy:")
    await asyncio.sleep(0.2)
    # The whole process stalls for longer than Redis may be silent.
    time.sleep(0.6)  # noqa: ASYNC251
    await asyncio.sleep(0.3)
    assert (oslo.bus.up, oslo.lost, oslo.bus.reconnects) == (True, 0, 0)


async def test_20_000_channels_are_subscribed_again_after_a_restart(
    node: Joining, own_redis: RedisServer
) -> None:
    oslo = await node(own_redis.url)
    channels = [f"r:{number}" for number in range(20_000)]
    async with asyncio.timeout(PATIENCE_S):
        assert all(await asyncio.gather(*map(oslo.bus.subscribe, channels)))
    receivers: list[int] = []

    def tries_all() -> None:
        for channel in channels:
            oslo.bus.publish(channel, b"Still there?", receivers.append)

    oslo.bus._missed = tries_all
    await own_redis.kill()
    await until(lambda: oslo.lost)
    await own_redis.start()
    await until(lambda: oslo.bus.up, 4)
    await until(lambda: len(receivers) == 20_000, 4)
    # When `missed` is called, all channels are subscribed.
    assert set(receivers) == {1}


async def test_a_message_of_a_megabyte_arrives(node: Joining, redis_url: str) -> None:
    oslo, lima = [await node(redis_url, "big:") for _ in range(2)]
    await oslo.bus.subscribe("r:1")
    big = os.urandom(2**20)
    await lima.says("r:1", big)
    await until(lambda: oslo.received)
    assert oslo.received == [("r:1", big)]


async def test_close_leaves_nothing_open(own_redis: RedisServer) -> None:
    tasks = asyncio.all_tasks()
    files = set(os.listdir("/proc/self/fd"))
    oslo, lima = nodes = [Node(own_redis.url) for _ in range(2)]
    for peer in nodes:
        await peer.bus.start()
    await lima.bus.subscribe("r:1")
    oslo.bus.publish("r:1", b"Good night")
    await oslo.bus.close()
    await until(lambda: lima.received)
    waiting = lima.bus.subscribe("r:2")
    await lima.bus.close()
    assert await waiting in (True, False)
    assert asyncio.all_tasks() == tasks
    assert set(os.listdir("/proc/self/fd")) == files
    assert (oslo.lost, lima.lost) == (0, 0)
    oslo.bus.publish("r:1", b"Talking in my sleep")
    assert await oslo.bus.subscribe("r:1") is False


async def test_the_bus_has_metrics(node: Joining, redis_url: str) -> None:
    oslo = await node(redis_url, "watch:")
    seen: dict[str, Callable[[], float]] = {}
    stores: dict[str, Callable[[], float]] = {}

    def watch(name: str, what: str, read: Callable[[], float]) -> None:
        seen[name] = read

    def memory(store: str, entries: Callable[[], float], at_most: float | None) -> None:
        stores[store] = entries

    oslo.bus.watch(watch, watch, memory)
    own = {name: read() for name, read in stores.items()}
    await oslo.bus.subscribe("r:1")
    assert stores["channels"]() > own["channels"]
    oslo.bus.unsubscribe("r:1")
    await until(lambda: {name: read() for name, read in stores.items()} == own)
    await oslo.says("r:1", b"Hello")
    assert {name: read() for name, read in seen.items()} == {
        "chat_bus_up": 1.0,
        "chat_bus_channels": 2,
        "chat_bus_published_total": 1,
        "chat_bus_heard_total": 0,
        "chat_bus_dropped_total": 0,
        "chat_bus_reconnects_total": 0,
    }
    async with asyncio.timeout(PATIENCE_S):
        while len(oslo.rounds) < 3:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.05)
    assert all(0 < seconds < 1 for seconds in oslo.rounds)
    assert seen["chat_bus_published_total"]() == 1, "messages to itself are not counted"


async def closed_while_it_connects(url: str) -> None:
    for number in range(30):
        lima = Node(url)
        starting = asyncio.create_task(lima.bus.start())
        await asyncio.sleep(number / 10_000)
        await asyncio.wait_for(lima.bus.close(), 2)
        await asyncio.wait_for(starting, 2)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
async def test_a_bus_can_be_closed_at_any_moment(
    run: Callable[[Awaitable[None]], None], redis_url: str
) -> None:
    await asyncio.to_thread(run, closed_while_it_connects(redis_url))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        await asyncio.to_thread(run, closed_while_it_connects(url))
