"""Ordered inserts that a locked document does not hold up.

A document is locked while an unfinished transaction has written another one with the same unique key. MongoDB lets an
insert wait until that transaction ends, however long it takes, and all documents of the insert wait with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from .. import tasks
from .operations import Document, Timed

log = structlog.get_logger(__name__)

AGAIN_S = 0.1
"""The time between two looks at what an insert waits for."""
INTERRUPTED = 11601


class Locked(Exception):
    """A document was locked. A majority has the `stored` documents before it, and none after it."""

    def __init__(self, stored: int) -> None:
        super().__init__(stored)
        self.stored = stored


class OrderedInsert:
    """Ordered inserts into one collection. `majority_has_all()` waits until a majority has what the primary has."""

    def __init__(
        self,
        client: AsyncMongoClient[Document],
        collection: Timed,
        majority_has_all: Callable[[], Awaitable[None]],
    ) -> None:
        self._client = client
        self._admin = client.get_database("admin", read_concern=ReadConcern("local"))
        self._collection = collection
        self._majority_has_all = majority_has_all

    async def insert(self, docs: list[Document], wait_s: float) -> None:
        """Like `insert_many`, but raises Locked in place of waiting longer for a locked document."""
        insert = partial(self._insert, docs, wait_s)
        try:
            await self._collection.operations.run("insert_many", insert, self._collection.name)
        except OperationFailure as error:
            if not _is_interrupted(error):
                raise
            raise Locked(await self.stored(docs)) from error

    async def _insert(self, docs: list[Document], wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        looking: list[asyncio.Task[None]] = []
        # It ends in here: if this operation is cancelled, its session is not used again (see Client).
        async with self._client.start_session(causal_consistency=False) as session:
            timer = loop.call_later(
                wait_s, lambda: looking.append(loop.create_task(self._interrupt_if_locked(session)))
            )
            try:
                await AsyncCollection.insert_many(
                    self._collection, docs, ordered=True, session=session
                )
            finally:
                timer.cancel()
                # Before the session ends: the next operation of that session must not be interrupted.
                for task in looking:
                    await tasks.end(task)

    async def _interrupt_if_locked(self, session: AsyncClientSession) -> None:
        """Runs until cancelled, or until it has interrupted the insert."""
        locked = {"lsid.id": session.session_id["id"], "writeConflicts": {"$gt": 0}}
        try:
            while True:
                async with await self._admin.aggregate(
                    [{"$currentOp": {}}, {"$match": locked}]
                ) as operations:
                    async for operation in operations:
                        # A number is never used twice, so this cannot end another operation.
                        await self._admin.command("killOp", op=operation["opid"])
                        return
                await asyncio.sleep(AGAIN_S)
        except PyMongoError as error:
            log.warning("it is unknown for what an insert waits", error=str(error))

    async def stored(self, docs: list[Document]) -> int:
        """Returns the number of documents that are stored, up to the first that is not. A majority has them.

        The insert must have ended, with whatever error. A document that has been changed since does not count.
        """
        await self._majority_has_all()
        ids = [doc["_id"] for doc in docs]
        found = {doc["_id"]: doc async for doc in self._collection.find({"_id": {"$in": ids}})}
        for number, doc in enumerate(docs):
            there = found.get(doc["_id"], {})
            # The relay takes endpoints out of `due`, or the whole field.
            if any(there.get(key) != value for key, value in doc.items() if key != "due"):
                return number
        return len(docs)


def _is_interrupted(error: OperationFailure) -> bool:
    if isinstance(error, BulkWriteError) and not error.details["writeErrors"]:
        return any(unsure["code"] == INTERRUPTED for unsure in error.details["writeConcernErrors"])
    return error.code == INTERRUPTED
