"""Metrics of database operations: their durations and failures."""

from __future__ import annotations

import asyncio
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
