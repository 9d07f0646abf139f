"""The one exception that callers get when the database is down. No other error is mistaken for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pymongo.errors
import pytest

from chatserver.mongo import (
    DatabaseUnavailable,
    DuplicateKeyError,
    Mongo,
    PyMongoError,
    is_down,
)
from chatserver.mongo.failures import deadline

UNAVAILABLE = [
    pymongo.errors.AutoReconnect("connection closed"),
    pymongo.errors.ServerSelectionTimeoutError("no primary"),
    pymongo.errors.WTimeoutError("waiting for replication timed out", 64, {}),
    pymongo.errors.PyMongoError("no such transaction", ["TransientTransactionError"]),
    pymongo.errors.BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 91}]}),
    TimeoutError("a socket"),
]
REFUSED = [
    pymongo.errors.OperationFailure("not authorized", 13),
    pymongo.errors.DuplicateKeyError("E11000", 11000, {}),
    pymongo.errors.BulkWriteError({"writeErrors": [{"code": 11000}], "writeConcernErrors": []}),
    KeyError("a fault of the program"),
    OSError("a full disk"),
]


@pytest.fixture
async def mongo(mongo_url: str, worker: str) -> AsyncIterator[Mongo]:
    mongo = Mongo(mongo_url, f"unavailable-{worker}-{time.monotonic_ns()}")
    yield mongo
    await mongo.users.delete_many({})
    await mongo.close()


@pytest.mark.parametrize("error", UNAVAILABLE, ids=repr)
async def test_an_absent_database_raises_one_exception(error: Exception) -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        async with deadline(4.0):
            raise error
    assert raised.value.__cause__ is error
    assert str(raised.value) == str(error)
    assert is_down(raised.value)


@pytest.mark.parametrize("error", REFUSED, ids=repr)
async def test_refusals_and_bugs_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        async with deadline(4.0):
            raise error
    assert raised.value is error
    assert not is_down(raised.value)


async def test_a_database_that_does_not_answer_in_time_is_unavailable(mongo: Mongo) -> None:
    await mongo.users.insert_one({"_id": "1"})
    with pytest.raises(DatabaseUnavailable) as raised:
        async with deadline(0.1):
            await mongo.users.find_one({"$where": "sleep(300) || true"})
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_a_database_that_refuses_is_not_unavailable(mongo: Mongo) -> None:
    await mongo.users.insert_one({"_id": "1"})
    with pytest.raises(DuplicateKeyError):
        async with deadline(4.0):
            await mongo.users.insert_one({"_id": "1"})
    with pytest.raises(PyMongoError) as raised:
        async with deadline(4.0):
            await mongo.users.update_one({"_id": "1"}, {"$shout": {"name": "Alice"}})
    assert not isinstance(raised.value, DatabaseUnavailable)


async def test_the_error_of_an_inner_deadline_passes_unchanged() -> None:
    with pytest.raises(DatabaseUnavailable) as raised:
        async with deadline(4.0), deadline(0.01):
            await asyncio.sleep(1)
    assert isinstance(raised.value.__cause__, TimeoutError)


async def test_a_task_that_is_cancelled_is_cancelled() -> None:
    async def work() -> None:
        async with deadline(4.0):
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
