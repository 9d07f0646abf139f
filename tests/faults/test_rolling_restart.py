"""A node is replaced while everybody talks. Clients reconnect by themselves, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.conftest import Starter
from tests.support.browsers import Browser
from tests.support.patience import PATIENCE_S
from tests.support.people import People
from tests.support.raw import RESTARTS, Wire, history
from tests.support.servers import ChatServer
from tests.support.talkers import Talker, everything, talk_on

DRAIN_S = 1
UNDER_WAY = 20
ROUNDS = 2


async def is_ready(people: People) -> bool | None:
    """None if the server does not answer."""
    try:
        async with people.session.get(f"{people.server.rest}/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return None


async def test_a_node_that_is_replaced_under_load_loses_nothing(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(DRAIN_S=str(DRAIN_S))
    people = people_of(server)
    alice, bob, carol, dave, *idle = people("alice", "bob", "carol", "dave", "erin", "frank")
    talk = await alice.group(bob, carol, dave)
    talkers = [Talker(person, talk, UNDER_WAY) for person in (alice, bob, carol)]
    listener = Talker(bob, talk, 0)
    browser = await Browser.open(dave)
    await browser.hears("client:upgrade")
    await browser.hears("connected")
    said: list[Any] = []
    stop = asyncio.Event()

    wired = [*talkers, listener]
    running = [asyncio.create_task(talker.run()) for talker in wired]
    running.append(asyncio.create_task(talk_on(browser, talk, said, stop)))

    for number in range(ROUNDS):
        await asyncio.sleep(0.7)
        # Silent clients make up the crowd over which the disconnection is spread.
        quiet = [await Wire.connect(person) for person in idle for _ in range(15)]
        goings = [asyncio.create_task(talker.wire.gone.wait()) for talker in wired]
        goings += [asyncio.create_task(wire.gone.wait()) for wire in quiet]
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        await asyncio.wait(goings, return_when=asyncio.FIRST_COMPLETED)
        assert await is_ready(people) is False, "before the first client is disconnected"
        assert await server.stop() == 0
        assert time.monotonic() - began < DRAIN_S + 3
        await asyncio.gather(*goings)
        # The next server uses the same ports and the same database.
        await server.start()
        await browser.hears("client:disconnect")
        await browser.hears("connected")
        assert [len(talker.codes) for talker in wired] == [number + 1] * len(wired)

    await asyncio.sleep(0.5)
    for talker in wired:
        talker.stopping = True
    stop.set()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*running)

    log = await history(alice, talk)
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    by_id = {message["id"]: message for message in log}
    for talker in talkers:
        mine = [message["content"] for message in log if message["senderId"] == talker.person.id]
        assert mine == [f"{n}" for n in range(talker.said)], "once, and in order"
        assert sorted(talker.acked) == list(range(talker.said))
        assert all(by_id[message["id"]] == message for message in talker.acked.values())
        assert talker.said > 200
    assert [message["content"] for message in log if message["senderId"] == dave.id] == [
        message["content"] for message in said
    ]
    assert len(said) > 20
    assert all(by_id[message["id"]] == message for message in said)
    for talker in wired:
        assert await talker.finish() == log
        assert len(talker.heard) == len(set(talker.heard)), "nothing was announced twice"
        assert talker.refused == []
        assert talker.codes == [RESTARTS] * ROUNDS
    assert await everything(browser, talk) == log
