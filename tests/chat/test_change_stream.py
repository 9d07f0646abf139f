"""A change stream and a read together miss nothing, and no relay counts as dead by mistake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest_asyncio
from pymongo.write_concern import WriteConcern

from chatserver.clock import now
from chatserver.mongo import Mongo
from chatserver.mongo.lease import Lease
from chatserver.outbox.endpoints import PARTITIONS
from chatserver.outbox.relay.partition_leases import LEASE_S, Leases
from tests.support.patience import PATIENCE_S
from tests.support.servers import MongoServer

SOON_S = 0.05


@pytest_asyncio.fixture
async def mongo(own_mongo: MongoServer) -> AsyncIterator[Mongo]:
    mongo = Mongo(own_mongo.url, "changes")
    await mongo.start()
    yield mongo
    await mongo.close()


async def test_a_change_that_a_majority_does_not_have_yet_is_read_or_streamed(mongo: Mongo) -> None:
    """A change stream starts after the primary's last change; a read sees only what a majority has."""
    # The primary has it immediately. The majority, which is one member, has it once it is journaled.
    hasty = mongo.outbox.with_options(write_concern=WriteConcern(w=1, j=False))
    for n in range(20):
        await hasty.insert_one({"_id": f"c-{n:08x}"})
        async with mongo.changes([{"$match": {"operationType": "insert"}}]) as changes:
            if await mongo.outbox.find_one({"_id": f"c-{n:08x}"}) is None:
                async with asyncio.timeout(PATIENCE_S):
                    told = await changes.next()
                assert told["documentKey"] == {"_id": f"c-{n:08x}"}


class Relay:
    """A second relay, which looks for partitions while the first one has them all."""

    def __init__(self, leases: Leases, looked: asyncio.Event) -> None:
        self.leases = leases
        self._looked = looked

    async def looks(self) -> frozenset[int]:
        """The partitions that it has after its next look."""
        self._looked.clear()
        async with asyncio.timeout(LEASE_S):
            await self._looked.wait()
        return self.leases.partitions


@asynccontextmanager
async def second(mongo: Mongo, kind: type[Leases] = Leases) -> AsyncIterator[Relay]:
    await mongo.relays.insert_many(
        [{"_id": f"p{partition:02d}", "owner": "first"} for partition in range(PARTITIONS)]
    )
    await Lease(mongo.relays, SOON_S).begin("first")
    await asyncio.sleep(2 * SOON_S)
    looked = asyncio.Event()
    leases = kind(mongo, looked.set, lambda partition: True)
    running = asyncio.create_task(leases.run())
    yield Relay(leases, looked)
    running.cancel()
    await asyncio.wait([running])


async def test_a_relay_whose_lease_ran_out_never_renews_it(mongo: Mongo) -> None:
    async with second(mongo) as relay:
        assert await relay.looks() == frozenset(range(PARTITIONS))
        # Even if the database's clock goes back, as it may when another primary takes over.
        await mongo.relays.update_one(
            {"_id": "first"}, {"$set": {"until": now() + timedelta(seconds=60)}}
        )
        assert not await Lease(mongo.relays, LEASE_S).renew("first")


async def test_a_heartbeat_just_in_time_counts(mongo: Mongo) -> None:
    """The lease that was read may be older than the last heartbeat, which a majority did not have yet."""

    class Behind(Leases):
        async def _all(self) -> Any:
            read = await super()._all()
            until = now() + timedelta(seconds=60)
            await mongo.relays.update_one({"_id": "first"}, {"$set": {"until": until}})
            return read

    async with second(mongo, Behind) as relay:
        assert await relay.looks() == frozenset()
        assert await relay.looks() == frozenset()
