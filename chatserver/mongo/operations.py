"""Limits the concurrent database operations, and measures them for operators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any, TypeVar

import structlog
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from .. import tasks
from ..observability.metrics import Families, Histograms, Labels
from .failures import DUPLICATE_KEY, DatabaseUnavailable
from .fair_queue import FairQueue

log = structlog.get_logger(__name__)

T = TypeVar("T")
Document = dict[str, Any]

TIMED = (
    "aggregate",
    "bulk_write",
    "count_documents",
    "delete_many",
    "delete_one",
    "find_one_and_delete",
    "find_one_and_update",
    "insert_many",
    "insert_one",
    "update_many",
    "update_one",
)
"""Besides `find`, which is timed per batch that it fetches. The driver runs `find_one` as a `find`."""

TIMEOUT_S = 4.0
SLOTS = 64
"""Concurrent operations of a process. More would only wait in the database instead of here."""
STALLED_S = 10.0
STALLED_LIMITS = 2
"""A process whose operations are all unanswered is stalled after STALLED_S, but not before this many time limits."""


class Slots:
    """The right to use the database, for SLOTS operations at a time.

    Kinds of operation take turns: a thousand clients that connect, or read a message, at once do not delay a
    send. Within a kind the first to ask is the first to get a slot.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._free = slots
        self._waiting = FairQueue[asyncio.Future[None]]()

    async def take(self, kind: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(kind, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot was given at the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        # While a slot is free, nobody waits.
        while not self._free and self._waiting:
            turn = self._waiting.take()
            if not turn.done():  # otherwise its caller was cancelled
                turn.set_result(None)
                return
        self._free += 1


class Operations:
    """Runs every database operation in one of the `Slots`, and counts their durations and failures.

    Transactions keep their slot until they end, so that they never wait behind operations that wait
    for their locks.

    The driver has a queue of its own, for connections. Its lock could stay taken for ever when a caller's time-out met a
    cancellation (see driver_waits.py), it is in no fair order, and there a transaction waits for each of its
    operations. So the driver may open as many connections as there are callers (`maxPoolSize=None`), and this queue
    lets in SLOTS of them.

    Timing costs 0.5 µs per operation. A listener of the driver costs 17 µs per command, and a lone
    send takes 400 µs in all.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._slots = Slots()
        self._unfinished = 0
        self._progress_at = time.monotonic()
        """The time of the last success, or of the first operation when there were none unfinished."""
        self._took = Histograms()
        self._failed: dict[Labels, float] = {}

    @property
    def stalled(self) -> bool:
        """True if operations are unfinished, and for a long time none has succeeded."""
        limit_s = max(STALLED_S, STALLED_LIMITS * self.timeout_s)
        return self._unfinished > 0 and time.monotonic() - self._progress_at > limit_s

    def watch(self, metrics: Families) -> None:
        metrics.gauge(
            "chat_mongo_operations_unfinished",
            f"MongoDB operations that run or wait for one of {SLOTS} slots.",
            lambda: self._unfinished,
        )
        metrics.histograms(
            "chat_mongo_operation_seconds",
            "Duration of MongoDB operations, retries by the driver included.",
            "operation",
            self._took,
        )
        metrics.counters(
            "chat_mongo_operation_failures_total",
            "Operations that MongoDB refused or did not answer in time.",
            ("operation", "code"),
            lambda: self._failed,
        )

    async def run(
        self, name: str, operation: Callable[[], Awaitable[T]], collection: str = ""
    ) -> T:
        """Run an operation when a slot is free, and time it. Its name and collection are its kind.

        Raises DatabaseUnavailable if it has not ended after `timeout_s`, the wait for the slot included.
        """
        if not self._unfinished:
            self._progress_at = time.monotonic()
        self._unfinished += 1
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._slots.take(name + collection)
                try:
                    result = await self.timed(name, operation())
                finally:
                    self._slots.give_back()
        except TimeoutError as error:
            raise DatabaseUnavailable from error
        finally:
            self._unfinished -= 1
        self._progress_at = time.monotonic()
        return result

    async def watch_stalls(self) -> None:
        """Logs for what all tasks wait, once per stall. Runs until cancelled."""
        was_stalled = False
        while True:
            await asyncio.sleep(1.0)
            if self.stalled and not was_stalled:
                log.error(
                    "no database operation succeeds",
                    unfinished=self._unfinished,
                    tasks=tasks.waiting(),
                )
            was_stalled = self.stalled

    async def timed(self, name: str, work: Awaitable[T]) -> T:
        """Time an operation that needs no slot, because it belongs to a transaction that has one."""
        began = time.perf_counter()
        try:
            result = await work
        except asyncio.CancelledError:
            self._fail(name, "Cancelled")
            raise
        except PyMongoError as error:
            if code := _code(error):
                self._fail(name, code)
            raise
        self._took[name].observe(time.perf_counter() - began)
        return result

    def _fail(self, name: str, code: str) -> None:
        self._failed[name, code] = self._failed.get((name, code), 0) + 1


class Client(AsyncMongoClient[Document]):
    """The driver's client. It does not use the session of a cancelled operation again.

    A cancelled write goes on in the database, for example while it waits for a lock, and has its session until
    then. The driver (PyMongo 4.20) would give that session to the next operation, which would wait with it.
    """

    def _return_server_session(self, server_session: Any) -> None:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            super()._return_server_session(server_session)


class Timed(AsyncCollection[Document]):
    """A collection whose operations are limited and timed."""

    def __init__(
        self,
        database: AsyncDatabase[Document],
        name: str,
        operations: Operations,
        read_concern: ReadConcern | None = None,
    ) -> None:
        super().__init__(database, name, read_concern=read_concern)
        self.operations = operations

    def find(self, *args: Any, **kwargs: Any) -> AsyncCursor[Document]:
        found = _Found(self, *args, **kwargs)
        found.in_transaction = kwargs.get("session") is not None
        return found


class _Found(AsyncCursor[Document]):
    in_transaction = False

    async def _refresh(self) -> int:
        asked = self.collection
        if not self.alive or not isinstance(asked, Timed):
            return await super()._refresh()
        refresh = super()._refresh
        if self.in_transaction:
            return await asked.operations.timed("find", refresh())
        return await asked.operations.run("find", refresh, asked.name)


def _timed(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    plain = getattr(AsyncCollection, name)

    @wraps(plain)
    async def operation(self: Timed, *args: Any, **kwargs: Any) -> Any:
        call = partial(plain, self, *args, **kwargs)
        if kwargs.get("session") is not None:
            return await self.operations.timed(name, call())
        return await self.operations.run(name, call, self.name)

    return operation


for _name in TIMED:
    setattr(Timed, _name, _timed(_name))


def _code(error: PyMongoError) -> str:
    """Returns the database's name or number of the error, or the name of the driver's exception.

    Returns an empty string for a duplicate key. That is no failure: it tells a node that another was first.
    """
    if isinstance(error, DuplicateKeyError):
        return ""
    if isinstance(error, BulkWriteError):
        # The first refusal counts. The refusal of a document has a number but no name.
        refused = error.details.get("writeConcernErrors") or error.details["writeErrors"]
        said = refused[0]
        return "" if said["code"] == DUPLICATE_KEY else str(said.get("codeName") or said["code"])
    if isinstance(error, OperationFailure):
        return str((error.details or {}).get("codeName") or error.code)
    return type(error).__name__
