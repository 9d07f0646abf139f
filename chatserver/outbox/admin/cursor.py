"""Where a page of a list ends: a time and an id, the newest first."""

from __future__ import annotations

from datetime import datetime

from ...clock import from_unix, unix_ms
from ...errors import ValidationFailed


def cursor(at: datetime, last_id: str) -> str:
    """The cursor of the page behind this place."""
    return f"{unix_ms(at)}.{last_id}"


def place(text: str) -> tuple[datetime, str]:
    """The place of a cursor. Raises ValidationFailed."""
    stamp, _, last_id = text.partition(".")
    if not (stamp.isdecimal() and stamp.isascii() and len(stamp) <= 14 and last_id):
        raise ValidationFailed.of("cursor", "Not a cursor of this list.")
    return from_unix(int(stamp) / 1000), last_id
