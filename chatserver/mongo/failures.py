"""The driver's errors, their meaning for callers, and the deadline of database calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bson.errors import InvalidDocument
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)

DUPLICATE_KEY = 11000

UNENCODABLE = (InvalidDocument, OverflowError, UnicodeEncodeError)
"""The driver's errors for a document that BSON cannot hold. Nothing was sent then."""


class DatabaseUnavailable(PyMongoError):
    """The database cannot be reached, or did not answer in time. Raised by `Mongo.deadline`.

    A write may have been stored, or may still be stored later. `__cause__` is the driver's error or a
    TimeoutError. The text is that of the cause, and may be empty.
    """


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """`async with deadline(4.0):` limits the time of the database calls in the block.

    Raises DatabaseUnavailable after `seconds`, and in place of every driver error that means that the
    database is down (`is_down`). All other exceptions pass unchanged: refusals by the database, bugs in
    the program, cancellation.

    Not for use inside a transaction: the driver needs its own errors to decide whether to run the
    transaction again. `Mongo.transaction` uses the driver's timeout, because the driver has to make
    another call, an abort, after a cancelled one. Elsewhere that timeout would cost every call 60 µs.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except DatabaseUnavailable:
        raise
    except (PyMongoError, TimeoutError) as error:
        if not is_down(error):
            raise
        raise DatabaseUnavailable(str(error)) from error


def is_down(error: BaseException) -> bool:
    """True if the database cannot be reached or cannot answer now; False if it refused the request.

    For code that handles all kinds of errors in one place. Other code uses `Mongo.deadline`.
    """
    if isinstance(
        error,
        (DatabaseUnavailable, TimeoutError, ConnectionFailure, WTimeoutError, WriteConcernError),
    ):
        return True
    if isinstance(error, BulkWriteError):
        # The documents before the refused one may not have reached a majority either.
        return bool(error.details.get("writeConcernErrors"))
    if isinstance(error, PyMongoError):
        return (
            bool(error.timeout)
            or error.has_error_label("RetryableWriteError")
            or (
                error.has_error_label("TransientTransactionError")
                or error.has_error_label("UnknownTransactionCommitResult")
            )
        )
    return False


def duplicate_of(error: PyMongoError) -> str | None:
    """Returns the name of the unique index that a write violated, or None for any other error."""
    details: Mapping[str, Any] | None = getattr(error, "details", None)
    if isinstance(error, BulkWriteError):
        details = ((details or {}).get("writeErrors") or [{}])[0]
    if not details or details.get("code") != DUPLICATE_KEY:
        return None
    pattern = details.get("keyPattern") or {}
    if "clientMessageId" in pattern:
        return "once"
    if "key" in pattern:
        return "key"
    return "_id" if "_id" in pattern else "seq" if "seq" in pattern else "other"
