"""Database operations: their turns, their durations and failures."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from chatserver.mongo import (
    BulkWriteError,
    DuplicateKeyError,
    Mongo,
    Operations,
    PyMongoError,
    Session,
)
from chatserver.mongo.operations import SLOTS
from chatserver.observability.metrics import Families
from tests.support.exposition import samples


async def test_operations_are_timed_and_failures_counted_by_code(
    mongo_url: str, worker: str
) -> None:
    operations, metrics = Operations(), Families()
    operations.watch(metrics)
    mongo = Mongo(mongo_url, f"operations-{worker}-{time.monotonic_ns()}", operations)
    try:
        await mongo.users.insert_many([{"_id": f"{n}"} for n in range(150)])
        with pytest.raises(DuplicateKeyError):
            await mongo.users.insert_one({"_id": "1"})
        with pytest.raises(BulkWriteError):
            await mongo.users.insert_many([{"_id": "200"}, {"_id": "1"}])
        with pytest.raises(BulkWriteError):
            await mongo.put("users", [{"_id": "1", "$name": "Alice"}])
        with pytest.raises(PyMongoError):
            await mongo.users.update_one({"_id": "1"}, {"$shout": {"name": "Alice"}})
        with pytest.raises(PyMongoError):
            await mongo.users.count_documents({"$shout": 1})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await mongo.users.find_one({"$where": "sleep(300) || true"})
        assert len([doc async for doc in mongo.users.find()]) == 151

        async def rename(session: Session) -> None:
            await mongo.users.update_one({"_id": "1"}, {"$set": {"name": "Al"}}, session=session)

        await mongo.transaction(rename)
    finally:
        # Leave nothing behind.
        await mongo.users.delete_many({})
        await mongo.close()
    now = samples((await metrics.exposition()).decode())
    took = {
        key.split()[1]: value
        for key, value in now.items()
        if key.startswith("chat_mongo_operation_seconds_count")
    }
    # A find returns 101 documents first, and the rest on request. A duplicate key is not a failure.
    assert took == {
        "insert_many": 1,
        "find": 2,
        "update_one": 1,
        "transaction": 1,
        "delete_many": 1,
    }
    failed = {key: value for key, value in now.items() if "failures" in key}
    name = "chat_mongo_operation_failures_total"
    assert failed == {
        f"{name} 9 update_one": 1,
        f"{name} 52 bulk_write": 1,
        f"{name} BadValue count_documents": 1,
        f"{name} Cancelled find": 1,
    }


async def test_a_storm_of_one_kind_does_not_delay_another_kind() -> None:
    operations, order = Operations(), list[str]()

    async def run(kind: str) -> None:
        async def work() -> None:
            order.append(kind)
            await asyncio.sleep(0.001)

        await operations.run(kind, work)

    storm = [asyncio.create_task(run("find")) for _ in range(SLOTS * 10)]
    await asyncio.sleep(0)
    await asyncio.gather(run("insert_many"), run("insert_many"), run("transaction"))
    assert order.index("transaction") <= SLOTS + 3
    assert len(order) < SLOTS * 5, "all three are done long before the storm is over"
    await asyncio.gather(*storm)
    assert order.count("find") == SLOTS * 10


async def test_callers_that_are_cancelled_while_they_wait_lose_no_slot() -> None:
    operations, at_work, most = Operations(0.05), 0, 0

    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            await asyncio.sleep(random.uniform(0, 0.01))
        finally:
            at_work -= 1

    def begin() -> list[asyncio.Task[None]]:
        kinds = ("find", "insert_many", "transaction")
        return [asyncio.create_task(operations.run(kinds[n % 3], work)) for n in range(SLOTS * 5)]

    for _ in range(5):
        storm = begin()
        while not all(task.done() for task in storm):
            random.choice(storm).cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*storm, return_exceptions=True)
    assert most == SLOTS
    most = 0
    await asyncio.gather(*begin()[: 2 * SLOTS], return_exceptions=True)
    assert most == SLOTS, "all slots are still there"
