"""What the database is asked, and how it answers: for operators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from ..observability.metrics import Families, Histograms, Labels
from .failures import DUPLICATE_KEY

T = TypeVar("T")
Document = dict[str, Any]

TIMED = (
    "aggregate",
    "bulk_write",
    "count_documents",
    "delete_many",
    "delete_one",
    "find_one_and_update",
    "insert_many",
    "insert_one",
    "update_many",
    "update_one",
)
"""And `find`, which is timed when it asks; `find_one` is one."""


class Operations:
    """How long they took, and how they failed. Each costs half a microsecond.

    A listener of the driver costs 17 for each command, where a lone send is 400 in all.
    """

    def __init__(self) -> None:
        self._took = Histograms()
        self._failed: dict[Labels, float] = {}

    def watch(self, metrics: Families) -> None:
        metrics.histograms(
            "chat_mongo_operation_seconds",
            "How long MongoDB took, by operation; what the driver tries again is in it.",
            "operation",
            self._took,
        )
        metrics.counters(
            "chat_mongo_operation_failures_total",
            "Operations that MongoDB refused or did not answer, by operation and code.",
            ("operation", "code"),
            lambda: self._failed,
        )

    async def timed(self, name: str, work: Awaitable[T]) -> T:
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


class Timed(AsyncCollection[Document]):
    """A collection whose operations are timed."""

    def __init__(
        self, database: AsyncDatabase[Document], name: str, operations: Operations
    ) -> None:
        super().__init__(database, name)
        self.operations = operations

    def find(self, *args: Any, **kwargs: Any) -> AsyncCursor[Document]:
        return _Found(self, *args, **kwargs)


class _Found(AsyncCursor[Document]):
    async def _refresh(self) -> int:
        asked = self.collection
        if not self.alive or not isinstance(asked, Timed):
            return await super()._refresh()
        return await asked.operations.timed("find", super()._refresh())


def _timed(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    plain = getattr(AsyncCollection, name)

    @wraps(plain)
    async def operation(self: Timed, *args: Any, **kwargs: Any) -> Any:
        return await self.operations.timed(name, plain(self, *args, **kwargs))

    return operation


for _name in TIMED:
    setattr(Timed, _name, _timed(_name))


def _code(error: PyMongoError) -> str:
    """The database's own name or number for it, or the name of the driver's exception. Empty for a duplicate key: that
    is an answer, by which nodes find out who was first."""
    if isinstance(error, DuplicateKeyError):
        return ""
    if isinstance(error, BulkWriteError):
        # By the first that was refused; a refusal of one document has no name, but a number.
        refused = error.details.get("writeConcernErrors") or error.details["writeErrors"]
        said = refused[0]
        return "" if said["code"] == DUPLICATE_KEY else str(said.get("codeName") or said["code"])
    if isinstance(error, OperationFailure):
        return str((error.details or {}).get("codeName") or error.code)
    return type(error).__name__
