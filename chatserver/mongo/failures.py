"""What the driver raises, what it means to callers, and how long they wait."""

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
"""What the driver raises for a document that BSON cannot hold; nothing was sent then."""

DEADLINE_S = 4.0
"""Every operation ends within it, retries included, so that a caller hears UNAVAILABLE within 5 s."""


class DatabaseUnavailable(PyMongoError):
    """The database cannot be reached, or did not answer in time; see `deadline`, which raises it.

    A write may be stored all the same, or may yet be. The cause is what the driver raised, or TimeoutError;
    the text is that of the cause, and may be empty.
    """


@asynccontextmanager
async def deadline(seconds: float = DEADLINE_S) -> AsyncIterator[None]:
    """`async with deadline():` bounds the database calls in it, and tells an absent database from a fault.

    Raises DatabaseUnavailable when `seconds` have passed, and in place of each error of the driver that
    means that the database is away or does not answer (`is_down`). Everything else passes as it is: the
    driver's other errors (the database refused the request), errors of the program, and cancellation.

    The driver's own time-outs are not used, since they cost every call 60 µs. Transactions have them,
    because there a cancelled call is followed by one that aborts. Inside a transaction do not use
    `deadline`: the driver repeats a transaction by its own errors.
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
    """Whether the database cannot be reached or cannot answer now (as opposed to refusing the request).

    For code that handles errors of every kind in one place; others use `deadline`.
    """
    if isinstance(
        error,
        (DatabaseUnavailable, TimeoutError, ConnectionFailure, WTimeoutError, WriteConcernError),
    ):
        return True
    if isinstance(error, BulkWriteError):
        # What came before the refused document may not have reached the majority either.
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
    """The name of the unique index that a write ran into, or None when it was something else."""
    details: Mapping[str, Any] | None = getattr(error, "details", None)
    if isinstance(error, BulkWriteError):
        details = (details or {}).get("writeErrors", [{}])[0]
    if not details or details.get("code") != DUPLICATE_KEY:
        return None
    pattern = details.get("keyPattern") or {}
    if "clientMessageId" in pattern:
        return "once"
    if "key" in pattern:
        return "key"
    return "_id" if "_id" in pattern else "seq" if "seq" in pattern else "other"
