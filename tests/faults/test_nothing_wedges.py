"""After a fault everything works again, without a restart."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pymongo
import pytest

from chatserver.mongo import DatabaseUnavailable, Mongo, Operations, PyMongoError, Session
from chatserver.mongo import operations as limits
from chatserver.mongo.operations import SLOTS
from tests.support.patience import PATIENCE_S, slowness
from tests.support.servers import MongoServer

TIMEOUT_S = 2.0
HELD_S = 8
"""Longer than a read whose reply is held back may take."""


@pytest.fixture
async def operations() -> Operations:
    return Operations(TIMEOUT_S)


@pytest.fixture
async def mongo(own_mongo: MongoServer, operations: Operations) -> AsyncIterator[Mongo]:
    mongo = Mongo(own_mongo.url, "wedge", operations)
    yield mongo
    await mongo.close()


async def answered(operation: Callable[[], Awaitable[Any]]) -> Any:
    """Repeats an operation until the database answers in time."""
    while True:
        try:
            return await operation()
        except DatabaseUnavailable:
            await asyncio.sleep(0.1)


async def test_timeouts_that_meet_cancellations_do_not_block_the_driver(
    mongo: Mongo, own_mongo: MongoServer
) -> None:
    """More transactions than slots, on a frozen database, each cancelled just after its own timeout."""

    async def change(n: int) -> None:
        async def body(session: Session) -> None:
            key = {"_id": f"user-{n % 50}"}
            await mongo.users.update_one(key, {"$inc": {"n": 1}}, upsert=True, session=session)
            await mongo.users.find_one(key, session=session)

        try:
            async with asyncio.timeout(TIMEOUT_S + random.uniform(0, 0.01)):
                await mongo.transaction(body)
        except (PyMongoError, TimeoutError):
            pass

    for _ in range(2):
        own_mongo.signal(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(TIMEOUT_S + 0.5, own_mongo.signal, signal.SIGCONT)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*[change(n) for n in range(6 * SLOTS)])
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(
            *[answered(lambda: mongo.users.find_one({})) for _ in range(3 * SLOTS)]
        )


async def test_a_read_is_interrupted_when_its_server_is_found_to_be_down(
    own_mongo: MongoServer,
) -> None:
    async with pymongo.AsyncMongoClient(own_mongo.url) as client:
        users = client["wedge"]["users"]
        await users.insert_one({"_id": "1"})
        (server,) = client._topology._servers.values()
        with own_mongo.failing("find", times=1, blockConnection=True, blockTimeMS=1000 * HELD_S):
            began = time.monotonic()
            reading = asyncio.create_task(users.find_one({}))
            while not server.pool.active_contexts:  # noqa: ASYNC110  a property of time
                await asyncio.sleep(0.01)
            for context in server.pool.active_contexts:
                context.cancel()
            # The driver tries a read once more.
            assert await reading == {"_id": "1"}
            assert time.monotonic() - began < HELD_S


async def test_a_reply_that_is_late_for_the_socket_is_a_network_timeout(
    own_mongo: MongoServer,
) -> None:
    options: dict[str, Any] = {"socketTimeoutMS": 700, "retryReads": False}
    async with pymongo.AsyncMongoClient(own_mongo.url, **options) as client:
        users = client["wedge"]["users"]
        await users.insert_one({"_id": "1"})
        with own_mongo.failing("find", times=1, blockConnection=True, blockTimeMS=1000 * HELD_S):
            began = time.monotonic()
            with pytest.raises(pymongo.errors.NetworkTimeout):
                await users.find_one({})
            assert await users.find_one({}) == {"_id": "1"}
            assert time.monotonic() - began < HELD_S


async def test_operations_start_in_order_and_one_that_is_cancelled_leaves_the_queue(
    operations: Operations,
) -> None:
    started: list[int] = []
    release = asyncio.Event()

    async def operation(n: int) -> int:
        started.append(n)
        await release.wait()
        return n

    tasks = [
        asyncio.create_task(operations.run("find", lambda n=n: operation(n)))
        for n in range(SLOTS + 10)
    ]
    await asyncio.sleep(0)
    assert started == list(range(SLOTS))
    tasks[SLOTS].cancel()
    tasks[SLOTS + 5].cancel()
    release.set()
    await asyncio.wait(tasks)
    waited = [n for n in range(SLOTS + 10) if n not in (SLOTS, SLOTS + 5)]
    assert started == waited
    assert [task.result() for task in tasks if not task.cancelled()] == waited


async def test_a_stall_is_noticed_until_an_operation_succeeds(
    mongo: Mongo, own_mongo: MongoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STALLED_S", 1.0)
    monkeypatch.setattr(limits, "STALLED_LIMITS", 0)
    await answered(lambda: mongo.users.find_one({}))
    await asyncio.sleep(1.1)
    assert not mongo.stalled, "nothing waits"
    own_mongo.signal(signal.SIGSTOP)
    waiting = asyncio.create_task(answered(lambda: mongo.users.insert_one({})))
    async with asyncio.timeout(PATIENCE_S):
        while not mongo.stalled:  # noqa: ASYNC110  a property of time
            await asyncio.sleep(0.01)
    assert not waiting.done()
    own_mongo.signal(signal.SIGCONT)
    await waiting
    assert not mongo.stalled


async def test_a_transaction_that_was_given_up_keeps_no_locks(
    mongo: Mongo, own_mongo: MongoServer
) -> None:
    """The database itself would keep them for a minute."""
    own_mongo.set(transactionLifetimeLimitSeconds=60)
    entered = asyncio.Event()

    async def body(session: Session) -> None:
        await mongo.users.update_one({"_id": "1"}, {"$inc": {"n": 1}}, upsert=True, session=session)
        entered.set()
        await asyncio.sleep(PATIENCE_S)

    await answered(lambda: mongo.put("users", [{"_id": "1", "n": 0}]))
    for n in range(3):
        entered.clear()
        given_up = asyncio.create_task(mongo.transaction(body))
        await entered.wait()
        change = {"$set": {"n": n}}
        with own_mongo.failing("abortTransaction", closeConnection=True):
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            async with asyncio.timeout(10 * slowness()):
                await answered(lambda: mongo.users.update_one({"_id": "1"}, change))  # noqa: B023
        assert await answered(lambda: mongo.users.find_one({"_id": "1"})) == {"_id": "1", "n": n}


async def test_a_write_that_waits_for_a_lock_keeps_no_other_waiting(
    mongo: Mongo, own_mongo: MongoServer
) -> None:
    """The write was given up, and goes on in the database. The next operations do not share its session."""
    own_mongo.set(transactionLifetimeLimitSeconds=60)
    await mongo.start()
    others = Mongo(own_mongo.url, "wedge")
    holds, let_go = asyncio.Event(), asyncio.Event()

    async def hold(session: Session) -> None:
        await others.users.insert_one({"_id": "locked"}, session=session)
        holds.set()
        await let_go.wait()

    holding = asyncio.create_task(others.transaction(hold))
    await holds.wait()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await mongo.users.insert_many([{"_id": "locked"}])
        began = asyncio.get_running_loop().time()
        for _ in range(5):
            await mongo.users.insert_one({})
        assert asyncio.get_running_loop().time() - began < 1.0 * slowness()
    let_go.set()
    await holding
    await others.close()


@pytest.mark.parametrize("code", [13, 365, 8000])
@pytest.mark.parametrize("commands", [("commitTransaction",), ("update", "abortTransaction")])
async def test_a_transaction_that_the_database_refuses_to_end_keeps_no_locks(
    mongo: Mongo, own_mongo: MongoServer, commands: tuple[str, ...], code: int
) -> None:
    """Many at a time: the next operation of the driver gets the session of one, and so ends that transaction alone."""
    own_mongo.set(transactionLifetimeLimitSeconds=60)
    ids = [f"user-{n}" for n in range(SLOTS // 2)]

    async def refused(key: str) -> None:
        async def body(session: Session) -> None:
            await mongo.users.insert_one({"_id": key}, session=session)
            await mongo.users.update_one({"_id": key}, {"$inc": {"n": 1}}, session=session)

        with pytest.raises(PyMongoError):
            await mongo.transaction(body)

    # The collection must exist: only one transaction at a time could create it.
    await answered(lambda: mongo.put("users", [{"_id": "first"}]))
    with own_mongo.failing(*commands, errorCode=code):
        await asyncio.gather(*map(refused, ids))
    async with asyncio.timeout(min(10 * slowness(), 40)):
        await answered(lambda: mongo.put("users", [{"_id": key, "n": 2} for key in ids]))
