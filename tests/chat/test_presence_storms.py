"""Faults while everybody comes and goes: recorded presence is correct afterwards, and no event was wrong."""

from __future__ import annotations

import asyncio
import random
import signal
from itertools import pairwise

import aiohttp

from tests.conftest import Starter
from tests.support.comings_and_goings import SETTLED_S, crowd
from tests.support.ledger import RECORDING, ledger_of
from tests.support.patience import PATIENCE_S
from tests.support.people import Person, Refused
from tests.support.raw import Wire
from tests.support.servers import ChatServer

PEOPLE = 120
FROZEN_S = 23


class Rambler:
    """A user who moves from node to node, and in the end stays connected or leaves."""

    def __init__(self, person: Person, nodes: list[ChatServer], seed: int) -> None:
        self.person = person
        self.nodes = nodes
        self.stays = bool(seed % 2)
        self.wire: Wire | None = None
        self._chance = random.Random(seed)

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                # A frozen node replies when it wakes up.
                self.wire = await Wire.connect(self.person.at(self._chance.choice(self.nodes)))
            except (aiohttp.ClientError, ConnectionError, TimeoutError, Refused):
                await asyncio.sleep(0.1)
                continue
            for _ in range(self._chance.randrange(20)):
                if stop.is_set() or self.wire.gone.is_set():
                    break
                await asyncio.sleep(0.1)
            if not (stop.is_set() and self.stays):
                await self.wire.close()

    @property
    def here(self) -> bool:
        return self.wire is not None and not self.wire.gone.is_set()


async def test_one_node_is_killed_and_one_frozen_while_everybody_comes_and_goes(
    start: Starter,
) -> None:
    nodes = [await start(PRESENCE_GRACE_S="0.05", **RECORDING) for _ in range(3)]
    killed, frozen, _ = nodes
    stop = asyncio.Event()
    async with crowd(nodes[0], PEOPLE) as people, ledger_of(nodes[0]) as ledger:
        ramblers = [Rambler(person, nodes, seed) for seed, person in enumerate(people)]
        running = [asyncio.create_task(rambler.run(stop)) for rambler in ramblers]
        await asyncio.sleep(3)
        await killed.kill()
        frozen.signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN_S)
        frozen.signal(signal.SIGCONT)
        await asyncio.sleep(3)
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*running)
        # The frozen node's first lease is gone, too.
        await ledger.nodes_left(2)
        await asyncio.sleep(SETTLED_S)

        here = {rambler.person.id for rambler in ramblers if rambler.here}
        assert 0 < len(here) < PEOPLE
        on = {doc["_id"]: doc["on"] async for doc in ledger.users.find({"on": {"$exists": True}})}
        assert set(on) == here
        assert {len(leases) for leases in on.values()} == {1}
        told = await ledger.presence()
        for person in people:
            events = told[person.id]
            assert (events[-1] == "online") == (person.id in here), person.id
            assert events[0] == "online", person.id
            assert all(former != later for former, later in pairwise(events)), (person.id, events)
