"""The primary of a replica set fails while people talk over two nodes: another one takes its place."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.patience import slowness
from tests.support.people import People, Person
from tests.support.people_on_nodes import Spread, spread
from tests.support.raw import history, rising, when
from tests.support.redises import RedisServer
from tests.support.replica_set import ReplicaSet, replica_set
from tests.support.servers import MongoServer
from tests.support.talkers import Patient, all_heard

BACK_S = 8.0
"""Sends are acknowledged again within this time after the election of another primary. That of a node which waits for
a frozen primary takes longest: it notices by the time-out of an operation, and then by that of a connection."""
FAILED_S = 6.0
"""For this long the old primary is frozen or cut off."""


class Talking(Patient):
    """Sends thirty messages a second, or as many as are acknowledged."""

    pause_s = 0.03


@dataclass
class Scene:
    """Two people talk over each of two nodes, and a third one listens on both."""

    mongo: ReplicaSet
    nodes: Spread
    reader: Person
    talk: dict[str, Any]
    talkers: list[Talking]
    running: list[asyncio.Task[None]]

    async def recovers(self, failed: MongoServer | None = None) -> None:
        """Messages that are sent after the election of another primary are acknowledged in time, on each node."""
        await self.mongo.primary(besides=failed)
        since = time.monotonic()
        now = [talker.said for talker in self.talkers]
        for talker, said in zip(self.talkers, now, strict=True):
            if talker.under_way:
                await when(lambda t=talker, n=said: t.unexpected or any(k >= n for k in t.acked))
                assert talker.unexpected is None, talker.unexpected
        assert time.monotonic() - since < BACK_S * slowness()

    async def all_is_there(self) -> None:
        for talker in self.talkers:
            talker.stopping = True
        await asyncio.gather(*self.running[: -len(self.nodes.servers)])
        log = await history(self.reader, self.talk)
        assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
        assert rising([message["rev"] for message in log])
        by_id = {message["id"]: message for message in log}
        for talker in self.talkers:
            said = [
                message["content"] for message in log if message["senderId"] == talker.person.id
            ]
            assert sorted(said, key=int) == [f"{n}" for n in range(talker.said)], "each once"
            acked = list(talker.acked.values())
            assert [by_id[message["id"]] for message in acked] == acked, "nothing is lost"
        await all_heard(self.talkers, log)


@pytest.fixture
async def scene(tmp_path: Path, own_redis: RedisServer) -> AsyncIterator[Scene]:
    async with (
        replica_set(tmp_path) as mongo,
        spread(mongo.url, own_redis.url, "members", tmp_path, count=2) as nodes,
        aiohttp.ClientSession() as session,
    ):
        await nodes.joined(own_redis)
        people = People(nodes.servers[0], session, nodes)
        alice, bob, carol, dave, erin = people("alice", "bob", "carol", "dave", "erin")
        talk = await alice.group(bob, carol, dave, erin)
        here, there = nodes.servers
        talkers = [
            *[Talking(person.at(here), talk, 2) for person in (alice, bob)],
            *[Talking(person.at(there), talk, 2) for person in (carol, dave)],
            *[Talking(erin.at(node), talk, 0) for node in nodes.servers],
        ]
        running = [asyncio.create_task(talker.run()) for talker in talkers]
        await when(lambda: all(len(talker.acked) > 20 for talker in talkers if talker.under_way))
        yield Scene(mongo, nodes, erin, talk, talkers, running)
        for task in running:
            task.cancel()
        await asyncio.gather(*[talker.wire.close() for talker in talkers])


async def test_the_primary_is_killed(scene: Scene) -> None:
    """It comes back as a secondary, and gives up the writes that no majority has."""
    primary = await scene.mongo.primary()
    primary.kill()
    await scene.recovers(primary)
    primary.launch()
    await scene.mongo.complete()
    await scene.all_is_there()


async def test_the_primary_steps_down(scene: Scene) -> None:
    primary = await scene.mongo.primary()
    await asyncio.to_thread(scene.mongo.step_down, primary)
    await scene.recovers(primary)
    await scene.all_is_there()


async def test_the_primary_freezes_and_continues(scene: Scene) -> None:
    """It takes itself for the primary until it hears from the others."""
    primary = await scene.mongo.primary()
    ends = asyncio.create_task(asyncio.sleep(FAILED_S))
    primary.signal(signal.SIGSTOP)
    await scene.recovers(primary)
    await ends
    primary.signal(signal.SIGCONT)
    await scene.mongo.complete()
    await scene.all_is_there()


async def test_the_primary_is_cut_off_from_the_others(scene: Scene) -> None:
    """The nodes reach all members: for a while two of them take themselves for the primary."""
    primary = await scene.mongo.primary()
    ends = asyncio.create_task(asyncio.sleep(FAILED_S))
    scene.mongo.isolate(primary)
    await scene.recovers(primary)
    await ends
    scene.mongo.heal()
    await scene.mongo.complete()
    await scene.all_is_there()


async def test_the_primary_loses_its_majority(scene: Scene) -> None:
    """Both others freeze. Nobody else can become primary, so the service comes back with them."""
    primary = await scene.mongo.primary()
    others = [member for member in scene.mongo.members if member is not primary]
    for member in others:
        member.signal(signal.SIGSTOP)
    await asyncio.sleep(FAILED_S)
    for member in others:
        member.signal(signal.SIGCONT)
    await scene.recovers()
    await scene.all_is_there()
