"""What the driver raises, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
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


def is_down(error: BaseException) -> bool:
    """Whether the database cannot be reached or cannot answer now (as opposed to refusing the request)."""
    if isinstance(error, (TimeoutError, ConnectionFailure, WTimeoutError, WriteConcernError)):
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
