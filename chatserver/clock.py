"""Time as the wire and the database know it: UTC, whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """`2026-11-21T09:30:00.000Z`; `moment` is in UTC."""
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"
