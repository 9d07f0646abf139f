"""Several relays share the work. If one dies or freezes, every event still arrives in order."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.conftest import RelayStarter, Starter
from tests.support.ledger import Ledger, ids, ledger_of
from tests.support.patience import slowness
from tests.support.people import People, Person
from tests.support.raw import Answer, Wire, when
from tests.support.receiver import Post, Receiver, Reply, key_of, stall
from tests.support.servers import ChatServer

Of = Callable[[ChatServer], People]
TALKS = 60
QUICK = {"WEBHOOK_RETRY_FIRST_S": "0.05", "WEBHOOK_RETRY_MAX_S": "0.2", "WEBHOOK_RELAY": "off"}

SMALL = {**QUICK, "WEBHOOK_CONCURRENCY": "8", "WEBHOOK_TIMEOUT_S": "2"}


async def shared(ledger: Ledger, *shares: list[int], within: float = 15) -> None:
    """Return when the relays own these numbers of partitions."""
    end = time.monotonic() + within
    while (now := await ledger.shares()) not in shares:
        assert time.monotonic() < end, now
        await asyncio.sleep(0.05)


class Flow:
    """Sends messages to many conversations, one after another, until `stop`."""

    def __init__(self, wire: Wire, talks: list[Any], per_s: float) -> None:
        self.sent = 0
        self._wire = wire
        self._talks = talks
        self.per_s = per_s
        self._stopped = False
        self._answers: list[asyncio.Future[Answer]] = []
        self._task = asyncio.create_task(self._run())

    @classmethod
    async def of(cls, person: Person, other: Person, *, per_s: float = 150) -> Flow:
        talks = [await person.group(other) for _ in range(TALKS)]
        return cls(await Wire.connect(person), talks, per_s)

    async def _run(self) -> None:
        while not self._stopped:
            talk = self._talks[self.sent % TALKS]
            self._answers.append(await self._wire.say(talk, f"{self.sent}"))
            self.sent += 1
            await asyncio.sleep(1 / self.per_s)

    async def more(self, count: int, within: float = 20) -> None:
        until = self.sent + count
        await when(lambda: self.sent >= until, within)

    async def stop(self) -> None:
        """Stop sending. Asserts that every message was acknowledged."""
        self._stopped = True
        await self._task
        for answer in await asyncio.gather(*self._answers):
            assert answer is not None
            assert answer["ok"], answer


async def all_arrives(
    receiver: Receiver, ledger: Ledger, flow: Flow, *, within: float = 15
) -> None:
    """Every event has arrived in order and nothing is due."""
    await flow.stop()
    recorded = await ledger.recorded()
    count = sum(map(len, recorded.values()))
    await receiver.until(lambda: len(receiver.events) == count, within=within)
    await ledger.settled(within)
    assert ids(receiver.by_key) == recorded
    assert await ledger.dead() == {}


def posted_again(receiver: Receiver) -> list[Post]:
    return [post for post in receiver.posts if post.attempt > 1]


async def test_relays_start_and_stop_under_load_and_nothing_is_sent_twice(
    start: Starter, people_of: Of, relay: RelayStarter
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        first = await relay(server)
        alice, bob = people_of(server)("alice", "bob")
        flow = await Flow.of(alice, bob)

        async with ledger_of(server) as ledger:
            assert await ledger.shares() == [16]
            await relay(server)
            await shared(ledger, [8, 8])
            await flow.more(100)
            await relay(server)
            await shared(ledger, [6, 5, 5], [6, 6, 4])
            await flow.more(100)
            first.signal(signal.SIGTERM)
            assert await first.process.wait() == 0
            await shared(ledger, [8, 8])
            await flow.more(100)
            await all_arrives(receiver, ledger, flow)
        assert len(receiver.events) > 1000
        assert posted_again(receiver) == []


async def test_the_other_relay_takes_over_from_one_that_was_killed(
    start: Starter, people_of: Of, relay: RelayStarter
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        alice, bob = people_of(server)("alice", "bob")
        doomed = await relay(server)
        await relay(server)
        async with ledger_of(server) as ledger:
            await shared(ledger, [8, 8])
            flow = await Flow.of(alice, bob)
            await flow.more(150)
            last = {key_of(post.event): post.event["id"] for post in receiver.posts}
            await doomed.kill()
            killed_at = time.monotonic()
            last |= {key_of(post.event): post.event["id"] for post in receiver.posts}
            await shared(ledger, [16])
            while await ledger.due() > 20:
                assert time.monotonic() - killed_at < 15 * slowness()
                await asyncio.sleep(0.05)
            assert time.monotonic() - killed_at < 15 * slowness()
            await all_arrives(receiver, ledger, flow)
        again = [post.event["id"] for post in posted_again(receiver)]
        assert len(again) == len(set(again))
        assert set(again) <= set(last.values()), "of each conversation at most what was in flight"


async def test_a_frozen_relay_finds_its_work_done_when_it_wakes(
    start: Starter, people_of: Of, relay: RelayStarter
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **SMALL)
        alice, bob = people_of(server)("alice", "bob")
        frozen, *_ = await asyncio.gather(*(relay(server) for _ in range(3)))
        async with ledger_of(server) as ledger:
            await shared(ledger, [6, 5, 5], [6, 6, 4])
            flow = await Flow.of(alice, bob, per_s=400)
            await flow.more(200)
            # It has more work in flight than it can handle when it is frozen.
            receiver.answer = lambda post: stall
            await flow.more(400)
            frozen.signal(signal.SIGSTOP)
            frozen_at = time.monotonic()
            receiver.answer = lambda post: 200
            flow.per_s = 50
            await shared(ledger, [8, 8])
            assert time.monotonic() - frozen_at < 15 * slowness()
            await asyncio.sleep(frozen_at + 20 - time.monotonic())
            count = len(receiver.posts)
            frozen.signal(signal.SIGCONT)
            await shared(ledger, [6, 5, 5], [6, 6, 4])
            await flow.more(100)
            await all_arrives(receiver, ledger, flow)
        # Its deliveries in flight had been posted before; it only finds that they had no answer.
        later = [post.event["id"] for post in receiver.posts[count:] if post.attempt > 1]
        assert later == []


async def test_a_relay_killed_before_recording_a_delivery_causes_one_repeat(
    start: Starter, people_of: Of, relay: RelayStarter
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK, WEBHOOK_CONCURRENCY="6")
        alice, bob = people_of(server)("alice", "bob")
        first = await relay(server)
        flow = await Flow.of(alice, bob)
        chosen: list[str] = []

        def answer(post: Post) -> Reply:
            if not chosen and post.event["data"].get("seq") == 5 and random.random() < 0.1:
                os.kill(first.process.pid, signal.SIGKILL)
                chosen.append(post.event["id"])
            return 200

        receiver.answer = answer
        await receiver.until(lambda: bool(chosen), within=30)
        await first.process.wait()
        await asyncio.sleep(0.1)
        before = len(receiver.posts)
        last = {key_of(post.event): post.event["id"] for post in receiver.posts}
        await relay(server)
        async with ledger_of(server) as ledger:
            await shared(ledger, [16])
            await all_arrives(receiver, ledger, flow)
        again = [post.event["id"] for post in receiver.posts[before:] if post.attempt > 1]
        assert chosen[0] in again
        assert len(again) <= 6
        assert len(again) == len(set(again))
        assert set(again) <= set(last.values())
