"""Two nodes behind the balancers of config/: a client stays on its node, and moves when the node stops."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time

import pytest

from tests.support.balanced import (
    DRAIN_S,
    Balanced,
    MasterService,
    Newcomers,
    all_is_there,
    browser_on,
    heard_all_while_connected,
    node_of,
    node_of_wire,
    upgraded,
)
from tests.support.bare import Polling
from tests.support.browsers import CUT, TRANSPORTS, everything_since_the_start
from tests.support.exposition import connections
from tests.support.patience import PATIENCE_S, slowness
from tests.support.raw import RESTARTS, Wire, history, when
from tests.support.talkers import Patient


async def test_every_transport_gets_through_and_both_nodes_have_clients(balanced: Balanced) -> None:
    *_, proxy, people = balanced
    everybody = people(*(f"person{n}" for n in range(6)))
    talk = await everybody[0].group(*everybody[1:])
    for transports in TRANSPORTS.values():
        ours = [
            await browser_on(node, person, transports)
            for node, person in zip("ababab", everybody, strict=True)
        ]
        if len(transports) == 2:
            await asyncio.gather(*[upgraded(browser) for browser in ours])
        for browser in ours:
            sent = await browser.say(talk, "Through to my node, and on to the other")
            for listener in ours:
                assert await listener.hears("message:new") == sent
        await asyncio.gather(*[browser.close() for browser in ours])
    assert len(await history(everybody[1], talk)) == 18

    wires = [await Wire.connect(people("guest")) for _ in range(30)]
    nodes = [node_of_wire(wire) for wire in wires]
    assert sorted(nodes) == ["a"] * 15 + ["b"] * 15, (
        "new clients go to the node with the fewest connections"
    )
    await asyncio.gather(*[wire.close() for wire in wires])
    await asyncio.sleep(0.2)
    assert "/socket.io/" in proxy.log
    assert "sid=" not in proxy.log, "with a session id, anybody could send as that client"


async def test_a_client_that_disconnects_while_it_polls_is_noticed_immediately(
    balanced: Balanced,
) -> None:
    *nodes, _, people = balanced
    polling = [await Polling.connect(people("guest")) for _ in range(6)]
    polls = [asyncio.create_task(browser.get()) for browser in polling]
    await asyncio.sleep(0.3)
    assert sum([await connections(node) for node in nodes]) == 6
    for poll in polls:
        poll.cancel()
    await asyncio.wait(polls)
    async with asyncio.timeout(PATIENCE_S):
        while any([await connections(node) for node in nodes]):  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.05)


async def test_a_drained_node_loses_its_clients_without_a_failure_and_gets_new_ones_later(
    balanced: Balanced,
) -> None:
    a, _, _, people = balanced
    names = ("alice", "bob", "carol", "dave", "erin", "frank", "grace")
    alice, bob, carol, dave, erin, *idle = people(*names)
    talk = await alice.group(bob, carol, dave, erin)
    talkers = [Patient(person, talk, 2) for person in (alice, bob, carol, dave)]
    running = [asyncio.create_task(talker.run()) for talker in talkers]
    browsers = [
        await browser_on(node, erin, transports)
        for transports in TRANSPORTS.values()
        for node in "ab"
    ]
    quiet = [await Wire.connect(person) for person in idle for _ in range(10)]
    newcomers, master = Newcomers(people), MasterService(alice, talk)
    await asyncio.sleep(0.5)
    assert {node_of_wire(talker.wire) for talker in talkers} == {"a", "b"}
    here = [browser for browser in browsers if node_of(browser) == "a"]

    began = time.monotonic()
    a.signal(signal.SIGTERM)
    assert await asyncio.wait_for(a.process.wait(), DRAIN_S + 5) == 0
    ended = time.monotonic()
    for browser in here:
        assert await browser.hears("client:disconnect") in CUT
        await browser.hears("connected")
    await asyncio.sleep(1)
    assert {node_of(browser) for browser in browsers} == {"b"}
    assert {node for when, node in newcomers.came if when > began + 4} == {"b"}
    codes = [await wire.ended() for wire in quiet if wire.gone.is_set()]
    assert codes == [RESTARTS] * len(codes), "told to reconnect, not cut off"
    assert 5 <= len(codes) <= 15

    await a.start()
    again = time.monotonic()
    while newcomers.came[-1][1] != "a":
        assert time.monotonic() - again < 10 * slowness(), "a restarted node gets clients again"
        await asyncio.sleep(0.1)
    await newcomers.end()
    await master.end()
    assert ended - began > DRAIN_S * 0.3
    assert newcomers.refused == []
    assert master.failed == []
    assert len(newcomers.came) > 100 / slowness()
    await all_is_there(alice, talk, talkers, running, master)
    for talker in talkers:
        assert set(talker.codes) <= {RESTARTS}, "told to reconnect, not cut off"
    for browser in here:
        await browser.say(talk, "Here again")
    log = await history(alice, talk)
    for browser in browsers:
        assert await everything_since_the_start(browser, talk) == log
        await heard_all_while_connected(browser, log)
        cuts = [name for name, _ in browser.heard if name == "client:disconnect"]
        assert len(cuts) == (browser in here), "clients of the other node stay connected"


async def test_all_clients_move_away_from_a_killed_node(balanced: Balanced) -> None:
    a, _, _, people = balanced
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    talkers = [Patient(person, talk, 2) for person in (alice, bob)]
    running = [asyncio.create_task(talker.run()) for talker in talkers]
    browsers = [await browser_on("a", carol, transport) for transport in TRANSPORTS.values()]
    elsewhere = await browser_on("b", carol, ["websocket"])
    newcomers, master = Newcomers(people), MasterService(alice, talk)
    await asyncio.sleep(0.5)

    killed = time.monotonic()
    await a.kill()
    for browser in browsers:
        assert await browser.hears("client:disconnect") in CUT
        await browser.hears("connected")
        assert node_of(browser) == "b"
    assert time.monotonic() - killed < 5 * slowness()
    await when(lambda: master.said > 20 and all(talker.said > 20 for talker in talkers))
    await newcomers.end()
    await master.end()
    assert newcomers.refused == []
    assert len(master.failed) <= 1, "only a request that was under way, which is repeated"
    await all_is_there(alice, talk, talkers, running, master)
    log = await history(alice, talk)
    for browser in (*browsers, elsewhere):
        assert await everything_since_the_start(browser, talk) == log
        await heard_all_while_connected(browser, log)
    assert "client:disconnect" not in [name for name, _ in elsewhere.heard]


@pytest.mark.parametrize("balanced", ["haproxy"], indirect=True)
async def test_a_frozen_node_soon_gets_no_new_clients(balanced: Balanced) -> None:
    """HAProxy checks its nodes. nginx notices only when a client's request fails."""
    a, _, _, people = balanced
    newcomers = Newcomers(people)
    await asyncio.sleep(0.5)
    assert {node for _, node in newcomers.came} == {"a", "b"}
    began = time.monotonic()
    a.signal(signal.SIGSTOP)
    await asyncio.sleep(8)
    a.signal(signal.SIGCONT)
    await newcomers.end()
    during = [(when, node) for when, node in newcomers.came if began + 0.2 < when < began + 8]
    assert {node for _, node in during} == {"b"}
    assert newcomers.refused == [], "tried on the other node, not refused"
    waits = [after - before for (before, _), (after, _) in itertools.pairwise(during)]
    assert max(waits) < 6
    assert len([when for when, _ in during if when > began + 6]) > 20, (
        "clients connect at the full rate again"
    )
