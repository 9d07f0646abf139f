"""Times as on the wire and in the database: UTC, in whole milliseconds.

Inside the server every datetime is UTC and has no time zone. Time zones took a tenth of the time of
reading a page of history.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


def now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=None)


def iso(moment: datetime) -> str:
    """`2026-11-21T09:30:00.000Z`."""
    return moment.isoformat(timespec="milliseconds") + "Z"


def stamp() -> str:
    """`iso(now())`, but faster, for frequent events."""
    seconds, ms = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(seconds)}{ms:03}Z"


@lru_cache(maxsize=1)
def _second(unix: int) -> str:
    return iso(from_unix(unix))[:-4]


def from_unix(seconds: float) -> datetime:
    """Raises OverflowError for a time outside the years 1 to 9999."""
    return EPOCH + timedelta(seconds=seconds)


def unix_ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)
