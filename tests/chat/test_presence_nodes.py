"""Presence on nodes that share a database, also when a node dies, is frozen or is replaced."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.conftest import Starter
from tests.support.comings_and_goings import SETTLED_S, arrive, crowd, heard_of
from tests.support.ledger import RECORDING, Ledger, ledger_of
from tests.support.patience import slowness
from tests.support.people import PATIENCE_S, People, Person, presence
from tests.support.raw import Wire
from tests.support.servers import ChatServer, MongoServer

LEASE_S, TICK_S, RESTART_GRACE_S = 12, 3, 15
TAKEN_OVER_S = 30
"""Within this time, a dead node's users are offline."""
ONCE = ["online", "offline"]


@pytest.fixture
def start(start: Starter) -> Starter:
    """The nodes record their events."""
    return partial(start, **RECORDING)


async def becomes(
    ledger: Ledger, person: Person, told: list[str], within: float = TAKEN_OVER_S
) -> None:
    """Wait until these transitions, and no others, are recorded for the person."""
    async with asyncio.timeout(within):
        while (now := (await ledger.presence()).get(person.id, [])) != told:
            assert now == told[: len(now)], now
            await asyncio.sleep(0.05)


async def online(ledger: Ledger, *, below: int) -> int:
    """The number of users recorded as online, once it is below `below`."""
    async with asyncio.timeout(2 * TAKEN_OVER_S):
        while True:
            number = await ledger.users.count_documents({"on": {"$exists": True}})
            if number < below:
                return number
            await asyncio.sleep(0.002)


@asynccontextmanager
async def last_one_held(ledger: Ledger) -> AsyncIterator[None]:
    """Meanwhile nobody can take the last of all users offline: a transaction has changed this user."""
    async with ledger.client.start_session() as session, await session.start_transaction():
        users = await ledger.users.find({"on": {"$exists": True}}, session=session).to_list()
        await ledger.users.update_one(
            {"_id": users[-1]["_id"]}, {"$set": {"held": True}}, session=session
        )
        yield
        await session.abort_transaction()


async def seen_after(moment: str, asker: Person, person: Person) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if (await presence(asker, person.id, "online"))["lastSeen"] > moment:
                return
            await asyncio.sleep(0.05)


async def statuses(asker: Person, people: Iterable[Person]) -> list[str]:
    ids = [person.id for person in people]
    batch = await asker.ask("POST", "/presence/batch", {"userIds": ids})
    return [presence["status"] for presence in batch["items"]]


async def test_bob_is_online_as_long_as_he_is_on_any_node(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    here, there = await start(), await start()
    alice, bob = people_of(here)("alice", "bob")
    await alice.direct(bob)
    desk = await Wire.connect(alice)
    async with ledger_of(here) as ledger:
        phone = await Wire.connect(bob)
        await desk.until(lambda: heard_of(desk, bob) == ["online"])
        tablet = await Wire.connect(bob.at(there))
        await phone.close()
        await asyncio.sleep(SETTLED_S)
        assert heard_of(desk, bob) == ["online"]
        for node in (here, there):
            assert (await presence(alice.at(node), bob.id, "online"))["lastSeen"] is not None
            await asyncio.sleep(0.1)
            assert await statuses(alice.at(node), [bob, alice]) == ["online", "online"]
        # His last activity is known on every node, too.
        before = (await presence(alice, bob.id, "online"))["lastSeen"]
        await tablet.do("activity:ping")
        await seen_after(before, alice, bob)
        # He moves from node to node within the grace period.
        for node in (here, there, here):
            await tablet.close()
            tablet = await Wire.connect(bob.at(node))
        await asyncio.sleep(SETTLED_S)
        await becomes(ledger, bob, ["online"])
        await tablet.close()
        await desk.until(lambda: heard_of(desk, bob) == ONCE)
        assert [await statuses(alice.at(node), [bob]) for node in (here, there)] == [
            ["offline"],
            ["offline"],
        ]
        await becomes(ledger, bob, ONCE)


async def test_the_same_people_come_and_go_on_two_nodes_at_the_same_moment(
    start: Starter,
) -> None:
    nodes = [await start(PRESENCE_GRACE_S="0.01") for _ in range(2)]
    async with crowd(nodes[0], 60) as people, ledger_of(nodes[0]) as ledger:
        everywhere = [person.at(node) for person in people for node in nodes]
        for _ in range(4):
            wires = await arrive(everywhere)
            await asyncio.sleep(0.25)
            await asyncio.gather(*[wire.close() for wire in wires[::2]])
            await asyncio.sleep(0.2)
            await asyncio.gather(*[wire.close() for wire in wires[1::2]])
            await asyncio.sleep(0.1)
        # Everybody has disconnected at least once.
        await asyncio.sleep(SETTLED_S)
        await arrive(everywhere)
        await asyncio.sleep(SETTLED_S)
        leases = {len(doc["on"]) async for doc in ledger.users.find()}
        assert leases == {2}
        told = await ledger.presence()
        assert len(told) == len(people)
        # Online and offline alternate, whichever node recorded them.
        assert all(events == ONCE * (len(events) // 2) + ["online"] for events in told.values()), (
            told
        )
        assert max(map(len, told.values())) > 1


async def test_users_of_a_killed_node_go_offline_once_unless_they_reconnect_elsewhere(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """A thousand users reconnect at the same time, without a presence event.

    Fewer on a busy machine: it could not connect them all before they count as gone.
    """
    dying, *others = [await start() for _ in range(3)]
    alice = people_of(others[0])("alice")
    desk = await Wire.connect(alice)
    size = max(60, int(1000 / slowness()))
    async with crowd(dying, size) as people, ledger_of(dying) as ledger:
        lost, back = people[: size // 10], people[size // 10 :]
        for person in [*lost[:5], *back[:5]]:
            await alice.direct(person)
        await arrive(people)
        await asyncio.sleep(SETTLED_S)
        before = await ledger.presence()
        assert [before[person.id] for person in people] == [["online"]] * len(people)

        began = time.monotonic()
        await dying.kill()
        await asyncio.sleep(0.5)
        await arrive([person.at(others[n % 2]) for n, person in enumerate(back)])
        assert set(await statuses(alice, [*lost[:5], *back[:5]])) == {"online"}
        for person in lost:
            within = TAKEN_OVER_S * slowness() - (time.monotonic() - began)
            await becomes(ledger, person, ONCE, within=within)
        assert time.monotonic() - began > LEASE_S - TICK_S

        await asyncio.sleep(2 * TICK_S)
        after = await ledger.presence()
        assert [after[person.id] for person in back] == [["online"]] * len(back)
        assert [after[person.id] for person in lost] == [ONCE] * len(lost)
        for node in others:
            seen = await statuses(alice.at(node), [*lost[:5], *back[:5]])
            assert seen == ["offline"] * 5 + ["online"] * 5
        await ledger.nodes_left(2)
        assert {len(doc["on"]) async for doc in ledger.users.find({"on": {"$ne": None}})} == {1}
        for person in lost[:5]:
            assert heard_of(desk, person).count("offline") <= 1


async def test_a_frozen_node_wakes_up_without_ghosts(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    frozen, other = await start(), await start()
    people = people_of(frozen)
    alice, stays, leaves, moves, *back = people(
        "alice", "stays", "leaves", "moves", *["returns"] * 6
    )
    everyone = [stays, leaves, moves, *back]
    for person in everyone:
        await alice.direct(person)
    desk = await Wire.connect(alice.at(other))
    async with ledger_of(frozen) as ledger:
        phone, *others = await arrive(everyone)
        for person in everyone:
            await becomes(ledger, person, ["online"])
        frozen.signal(signal.SIGSTOP)
        began = time.monotonic()
        await Wire.connect(moves.at(other))
        for person in (stays, leaves, *back):
            await becomes(ledger, person, ONCE)
            await desk.until(lambda person=person: heard_of(desk, person) == ["offline"])
            assert await statuses(alice.at(other), [person]) == ["offline"]
        assert time.monotonic() - began > LEASE_S - TICK_S
        # The node notices this when it wakes up.
        closing = [asyncio.create_task(wire.close()) for wire in others]
        await asyncio.sleep(0.1)
        frozen.signal(signal.SIGCONT)
        await asyncio.gather(*closing)
        for person in back:
            # Before, while and after the node records the users who are connected.
            await Wire.connect(person)
            await asyncio.sleep(0.04)
        await becomes(ledger, stays, [*ONCE, "online"])
        await asyncio.sleep(SETTLED_S + TICK_S)
        for node in (frozen, other):
            seen = await statuses(alice.at(node), everyone)
            assert seen == ["online", "offline", "online", *["online"] * len(back)]
        for person in (stays, *back):
            await becomes(ledger, person, [*ONCE, "online"], within=1)
        await becomes(ledger, leaves, ONCE, within=1)
        await becomes(ledger, moves, ["online"], within=1)
        # The node works like a new one: its users' transitions are announced again.
        await phone.close()
        await becomes(ledger, stays, [*ONCE, *ONCE])
        await ledger.nodes_left(2)
        assert await online(ledger, below=len(everyone)) == len([alice, moves, *back])
    assert "starting a new one" in frozen.log


async def test_users_who_move_away_from_a_stopping_node_stay_online(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    stopped, other = await start(DRAIN_S="2"), await start()
    people = people_of(stopped)
    alice, quick, slow, never, *idle = people("alice", "quick", "slow", "never", "erin", "frank")
    everyone = [quick, slow, never]
    for person in everyone:
        await alice.direct(person)
    desk = await Wire.connect(alice.at(other))
    async with ledger_of(stopped) as ledger:
        wires = await arrive(everyone)
        for person in everyone:
            await becomes(ledger, person, ["online"])
        # Disconnection is spread over a crowd: the first users are away for longer than the grace period
        # before the node stops.
        await arrive(idle * 12)
        stopping = asyncio.create_task(stopped.stop())
        await asyncio.gather(*[wire.ended() for wire in wires])
        await Wire.connect(quick.at(other))
        assert await stopping == 0
        ended = time.monotonic()
        await asyncio.sleep(8)
        assert await statuses(alice.at(other), everyone) == ["online"] * 3
        await Wire.connect(slow.at(other))
        await becomes(ledger, never, ONCE)
        assert RESTART_GRACE_S - 3 < time.monotonic() - ended < RESTART_GRACE_S + TICK_S + 2
        assert await statuses(alice.at(other), everyone) == ["online", "online", "offline"]
        await desk.until(lambda: heard_of(desk, never) == ["offline"])
        assert [heard_of(desk, person) for person in (quick, slow)] == [[], []]
        told = await ledger.presence()
        assert [told[person.id] for person in (quick, slow)] == [["online"], ["online"]]


async def test_the_only_node_is_killed_and_its_users_have_time_to_reconnect(
    start: Starter,
) -> None:
    server = await start()
    async with crowd(server, 20) as people, ledger_of(server) as ledger:
        await arrive(people)
        await asyncio.sleep(SETTLED_S)
        await server.kill()
        # Users cannot reconnect while there is no node.
        await asyncio.sleep(TICK_S)
        await server.start()
        began = time.monotonic()
        await asyncio.sleep(RESTART_GRACE_S / 2)
        back, lost = people[:10], people[10:]
        await arrive(back)
        for person in lost:
            await becomes(ledger, person, ONCE)
        assert time.monotonic() - began > RESTART_GRACE_S - 1
        await asyncio.sleep(SETTLED_S)
        told = await ledger.presence()
        assert [told[person.id] for person in people] == [["online"]] * 10 + [ONCE] * 10


async def test_the_node_that_takes_over_is_killed_and_the_next_one_continues(
    start: Starter,
) -> None:
    first, second = await start(), await start()
    async with crowd(first, 1000) as people, ledger_of(first) as ledger:
        await arrive(people)
        await asyncio.sleep(SETTLED_S)
        await first.kill()
        await asyncio.sleep(TICK_S)
        # The third node is too young to take over before the second one does.
        third = await start()
        async with last_one_held(ledger):
            assert await online(ledger, below=len(people)) > 0
            await second.kill()
        assert await online(ledger, below=1) == 0
        told = await ledger.presence()
        assert [told[person.id] for person in people] == [ONCE] * len(people)
        await ledger.nodes_left(2)
        assert third.process.returncode is None


async def test_the_database_is_down_for_longer_than_a_lease(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    nodes = [await start(own_mongo.url) for _ in range(2)]
    people = people_of(nodes[0])
    alice, bob, carol = people("alice", "bob", "carol")
    await alice.group(bob, carol)
    async with ledger_of(nodes[0]) as ledger:
        await Wire.connect(bob)
        leaves = await Wire.connect(carol.at(nodes[1]))
        for person in (bob, carol):
            await becomes(ledger, person, ["online"])
        own_mongo.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_S / 2)
        await leaves.close()
        await asyncio.sleep(LEASE_S / 2 + TICK_S)
        own_mongo.signal(signal.SIGCONT)
        await becomes(ledger, carol, ONCE)
        await asyncio.sleep(RESTART_GRACE_S + 2 * TICK_S)
        for node in nodes:
            assert await statuses(alice.at(node), [bob, carol]) == ["online", "offline"]
        await becomes(ledger, bob, ["online"], within=1)
        assert await ledger.nodes.count_documents({}) == 2
