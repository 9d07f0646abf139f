"""Redis fails in many ways: nothing waits for it, and every node learns when to catch up."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time

import pytest
import redis as blocking

from tests.support.nodes_of_a_bus import Joining, Node, until
from tests.support.patience import slowness
from tests.support.redises import Keeping, RedisServer, Wire
from tests.support.servers import free_port


async def talk(oslo: Node, lima: Node) -> None:
    """Check that both receive each other's messages, and nothing after them."""
    for speaker, other in ((oslo, lima), (lima, oslo)):
        assert await speaker.says("r:1", b"Hear me?") == 2
        await until(
            lambda other=other: other.received and other.received[-1] == ("r:1", b"Hear me?")
        )


async def pair(node: Joining, url: str) -> tuple[Node, Node]:
    oslo, lima = await node(url), await node(url)
    for peer in (oslo, lima):
        assert await peer.bus.subscribe("r:1") is True
    await talk(oslo, lima)
    assert (oslo.missed, oslo.lost, lima.missed, lima.lost) == (1, 0, 1, 0)
    return oslo, lima


async def test_redis_is_killed_and_comes_back_empty(node: Joining, own_redis: RedisServer) -> None:
    oslo, lima = await pair(node, own_redis.url)
    await own_redis.kill()
    await until(lambda: oslo.lost and lima.lost, 1)
    assert not oslo.bus.up
    late = oslo.bus.subscribe("r:2")
    assert late.done()
    assert late.result() is False
    oslo.bus.publish("r:1", b"Nobody hears this", pytest.fail)
    assert oslo.bus.dropped == 1
    await asyncio.sleep(1.5)
    assert (oslo.missed, oslo.lost) == (1, 1)
    await own_redis.start()
    took = await until(lambda: oslo.missed == 2 and lima.missed >= 2, 3)
    assert took < 1.5 * slowness()
    assert await lima.says("r:2", b"You came back") == 1
    await talk(oslo, lima)
    assert ("r:1", b"Nobody hears this") not in lima.received
    assert (oslo.lost, oslo.bus.reconnects, lima.bus.reconnects) == (1, 1, 1)


async def test_a_stalled_redis_counts_as_down_within_3_s(
    node: Joining, own_redis: RedisServer
) -> None:
    oslo, lima = await pair(node, own_redis.url)
    own_redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    while time.monotonic() - began < 5:
        before = time.monotonic()
        oslo.bus.publish("r:1", b"x" * 1000)
        assert time.monotonic() - before < 0.05 * slowness()
        if time.monotonic() - began > 3:
            assert (oslo.lost, lima.lost) == (1, 1)
            assert not oslo.bus.up
        await asyncio.sleep(0.01)
    own_redis.signal(signal.SIGCONT)
    await until(lambda: oslo.bus.up and lima.bus.up, 2)
    # At the latest, Oslo tells Lima to catch up.
    await until(lambda: oslo.missed >= 2 and lima.missed >= 2, 1)
    await talk(oslo, lima)
    assert oslo.bus.dropped > 100


async def test_a_stalled_redis_takes_a_bounded_amount_of_memory(
    node: Joining, own_redis: RedisServer
) -> None:
    oslo = await node(own_redis.url)
    own_redis.signal(signal.SIGSTOP)
    message = b"x" * 2**16
    for number in range(1000):
        oslo.bus.publish("r:1", message)
        if number % 10 == 0:
            await asyncio.sleep(0)
    # 64 MB: the limit of unsent bytes applies before Redis counts as silent.
    assert (oslo.lost, oslo.bus.up) == (1, False)
    own_redis.signal(signal.SIGCONT)
    await until(lambda: oslo.bus.up)


@pytest.mark.parametrize("what", ["publishes", "hears"])
async def test_the_bus_reconnects_after_either_connection_is_cut(
    node: Joining, own_redis: RedisServer, what: str
) -> None:
    oslo, lima = await pair(node, own_redis.url)
    await own_redis.kill_client(what)
    await until(lambda: oslo.bus.reconnects == 1 and lima.bus.reconnects == 1, 1)
    await until(lambda: oslo.missed >= 2 and lima.missed >= 2, 1)
    assert (oslo.lost, lima.lost) == (1, 1)
    await talk(oslo, lima)


async def test_a_node_that_could_not_publish_tells_the_others_to_catch_up(
    node: Joining, own_redis: RedisServer, wire: Wire
) -> None:
    lima = await node(own_redis.url)
    oslo = await node(wire.url)
    assert lima.missed == 1
    wire.hold()
    oslo.bus.publish("r:1", b"Did you get that?", pytest.fail)
    await asyncio.sleep(0.05)
    wire.cut()
    await until(lambda: oslo.lost)
    assert oslo.bus.dropped == 1
    wire.release()
    # Oslo catches up because its bus came up, Lima because Oslo tells it to; once each.
    await until(lambda: lima.missed == 2, 4)
    await asyncio.sleep(0.3)
    assert (oslo.missed, lima.missed, lima.lost, lima.bus.reconnects) == (2, 2, 0, 0)
    wire.cut()
    await until(lambda: oslo.bus.reconnects == 2)
    await asyncio.sleep(0.3)
    assert lima.missed == 2


async def test_other_nodes_catch_up_on_messages_published_while_the_bus_was_down(
    node: Joining, own_redis: RedisServer, wire: Wire
) -> None:
    lima = await node(own_redis.url)
    oslo = await node(wire.url)
    wire.hold()
    wire.cut()
    await until(lambda: oslo.lost)
    oslo.bus.publish("r:1", b"Lost on the way")
    wire.release()
    await until(lambda: lima.missed == 2, 4)
    assert (oslo.bus.dropped, lima.lost) == (1, 0)


async def test_close_returns_true_if_everything_went_out(
    node: Joining, own_redis: RedisServer, wire: Wire
) -> None:
    oslo, lima, rome, bonn = [await node(url) for url in [own_redis.url] + [wire.url] * 3]
    for peer in (oslo, lima):
        peer.bus.publish("r:1", b"Good night")
    assert await oslo.bus.close() is True
    assert await lima.bus.close() is True
    wire.hold()
    rome.bus.publish("r:1", b"Does anybody hear me?")
    assert await rome.bus.close() is False
    wire.cut()
    await until(lambda: bonn.lost)
    bonn.bus.publish("r:1", b"Hello?")
    assert await bonn.bus.close() is False


async def test_a_connection_that_carries_nothing_counts_as_cut(
    node: Joining, own_redis: RedisServer, wire: Wire
) -> None:
    oslo = await node(wire.url)
    wire.hold()
    assert await until(lambda: oslo.lost, 3) > 1
    wire.release()
    await until(lambda: oslo.bus.up, 4)


async def test_a_node_that_lost_nothing_does_not_make_others_catch_up(
    node: Joining, own_redis: RedisServer
) -> None:
    oslo, lima = await pair(node, own_redis.url)
    async with own_redis.client() as redis:
        ours = next(
            client for client in await redis.client_list() if oslo.bus._id in client["name"]
        )
        await redis.client_kill_filter(_id=ours["id"])
    await until(lambda: oslo.missed == 2)
    await asyncio.sleep(0.3)
    assert (lima.missed, lima.lost) == (1, 0)


async def test_a_subscriber_that_reads_too_slowly_catches_up(
    node: Joining, own_redis: RedisServer
) -> None:
    async with own_redis.client() as redis:
        await redis.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
    lima = await node(own_redis.url)

    def flood() -> None:
        # It blocks the event loop, so nothing is read while it runs.
        with blocking.Redis(host="127.0.0.1", port=own_redis.port) as other:
            for _ in range(64):
                other.publish("chat:r:2", b"x" * 2**19)

    await lima.bus.subscribe("r:1")
    await lima.bus.subscribe("r:2")
    lima.bus.publish("r:1", b"Now", lambda _: flood())
    await until(lambda: lima.missed == 2)
    assert (lima.lost, lima.bus.up) == (1, True)
    assert len(lima.received) < 64
    assert await lima.says("r:2", b"Better now?") == 1


async def test_a_node_starts_without_redis(
    node: Joining, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await own_redis.kill()
    began = time.monotonic()
    oslo = await node(own_redis.url)
    assert time.monotonic() - began < 0.5 * slowness()
    assert (oslo.bus.up, oslo.missed) == (False, 0)
    assert await oslo.bus.subscribe("r:1") is False
    await asyncio.sleep(1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    await own_redis.start()
    await until(lambda: oslo.bus.up, 2)
    assert (oslo.missed, oslo.lost, oslo.bus.reconnects) == (1, 0, 0)
    assert await oslo.says("r:1", b"At last") == 1


async def test_a_node_starts_with_a_redis_that_does_not_answer(node: Joining) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        oslo = await node(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        assert 1 < time.monotonic() - began < 3 * slowness()
        assert not oslo.bus.up
        await oslo.bus.close()


async def test_a_server_that_is_not_redis_is_refused(
    node: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        oslo = await node(f"redis://127.0.0.1:{port}")
        assert not oslo.bus.up
        assert "does not speak the Redis protocol" in caplog.text
        await oslo.bus.close()


async def test_a_node_leaves_a_master_that_becomes_a_replica(
    node: Joining, redis_of: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = await redis_of(), await redis_of()
    oslo = await node(old.url)
    async with old.client() as redis:
        await redis.replicaof("127.0.0.1", str(new.port))
        await until(lambda: oslo.lost, 2)
        assert "it is a replica" in caplog.text
        await asyncio.sleep(0.3)
        assert not oslo.bus.up
        await redis.replicaof("NO", "ONE")
    await until(lambda: oslo.bus.up, 2)


class Reader(Node):
    """A node that reads from the record what it may have missed."""

    def __init__(self, url: str, record: list[bytes]) -> None:
        super().__init__(url)
        self.record = record
        self.knows: set[bytes] = set()

    def receive(self, channel: str, message: bytes) -> None:
        self.knows.add(message)

    def has_missed(self) -> None:
        super().has_missed()
        self.knows.update(self.record)


async def test_no_node_misses_anything_during_random_faults(
    own_redis: RedisServer, wire: Wire
) -> None:
    record: list[bytes] = []
    nodes = [Reader(url, record) for url in (own_redis.url, wire.url)]
    for reader in nodes:
        await reader.bus.start()
        await reader.bus.subscribe("r:1")
    chance = random.Random(20261121)
    talking = True

    async def talk_on(reader: Reader) -> None:
        while talking:
            for _ in range(chance.randrange(30)):
                record.append(b"%d" % len(record))
                reader.bus.publish("r:1", record[-1])
            await asyncio.sleep(0.001)

    talks = [asyncio.create_task(talk_on(reader)) for reader in nodes]
    for _ in range(30):
        what = chance.randrange(5)
        if what == 0:
            await own_redis.kill_client("publishes")
        elif what == 1:
            await own_redis.kill_client("hears")
        elif what == 2:
            await own_redis.kill()
            await asyncio.sleep(chance.random() / 10)
            await own_redis.start()
        elif what == 3:
            wire.hold()
            await asyncio.sleep(chance.random() / 10)
            wire.cut()
            wire.release()
        await asyncio.sleep(chance.random() / 5)
    talking = False
    await asyncio.gather(*talks)
    await until(lambda: all(reader.bus.up for reader in nodes))
    for reader in nodes:
        await reader.says("r:1", b"The end")
    await asyncio.sleep(0.3)
    try:
        assert sum(reader.bus.reconnects for reader in nodes) >= 4
        assert all(reader.bus.received > 1000 for reader in nodes)
        assert all(set(record) - reader.knows == set() for reader in nodes)
    finally:
        for reader in nodes:
            await reader.bus.close()
