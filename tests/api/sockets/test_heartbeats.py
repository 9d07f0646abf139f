"""Heartbeats: pings detect dead clients. Short visits are announced correctly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

from tests.conftest import Starter
from tests.support.bare import BareSocket, Polling
from tests.support.exposition import connections
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.raw import Wire
from tests.support.servers import ChatServer


async def test_only_clients_that_answer_stay(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Silent clients are disconnected, whichever reply they leave out. Well-behaved clients stay."""
    server = await start(PING_INTERVAL_S="2", PING_TIMEOUT_S="1", PRESENCE_GRACE_S="0")
    people = people_of(server)
    bob, deaf, mute, poller, half, still = people("bob", "deaf", "mute", "poller", "half", "still")
    await bob.group(deaf, mute, poller, half, still)
    listener = await Wire.connect(bob)
    began = time.monotonic()

    # Never authenticates: disconnected when its first ping is due, over either transport.
    nobody, nobody_polling = await Wire.open(mute), await Polling.open(mute)
    # One never answers a ping, one never reads or answers, one never polls, and one polls without answering.
    silent = await Wire.connect(deaf, pongs=False)
    frozen = await BareSocket.connect(still, receive_buffer=4096)
    absent = await Polling.connect(poller)
    rude = await Polling.connect(half)

    async def poll_on() -> None:
        while (await rude.get())[0] == 200:
            pass

    polling = asyncio.create_task(poll_on())
    assert await nobody.ended(within=3.5) in (1000, None)
    assert nobody.pings == 0
    await silent.ended(within=5)
    assert silent.pings >= 1
    await asyncio.wait_for(polling, 5)
    went = {deaf.id, poller.id, half.id, still.id}
    await listener.until(
        lambda: {offline["userId"] for offline in listener.told("user:offline")} == went
    )
    assert time.monotonic() - began < 7 * slowness()
    for polled in (nobody_polling, absent, rude):
        assert (await polled.get())[0] == 400
    assert not listener.gone.is_set()
    assert listener.pings >= 1
    assert await connections(server) == 1
    frozen.abort()


async def test_the_server_announces_its_ping_interval(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(PING_INTERVAL_S="7", PING_TIMEOUT_S="3"))
    wire = await Wire.open(people("alice"))
    await wire.until(lambda: wire.frames)
    opened = json.loads(wire.frames[0][1:])
    assert set(opened) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
    assert (opened["pingInterval"], opened["pingTimeout"], opened["upgrades"]) == (7000, 3000, [])
    await wire.close()


async def test_a_short_visit_is_announced_whole_or_not_at_all(people: People) -> None:
    """Offline is announced only after online."""
    mallory, bob = people("mallory", "bob")
    await bob.direct(mallory)
    listener = await Wire.connect(bob)
    for stay in (0.0, 0.1, 0.25):
        visit = await Wire.connect(mallory)
        await asyncio.sleep(stay)
        await visit.close()
        told = len(listener.names)
        await listener.until(lambda told=told: "user:offline" in listener.names[told:])
        names = [name for name in listener.names if name in ("user:online", "user:offline")]
        assert names == ["user:online", "user:offline"] * (len(names) // 2)
