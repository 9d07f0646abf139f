"""The opaque cursor of a list that has the newest item first: the time and id of a page's last item."""

from __future__ import annotations

from datetime import datetime

from ..clock import from_unix, unix_ms
from ..errors import ValidationFailed


def encode(at: datetime, last_id: str) -> str:
    """Returns the cursor of the next page. Its time is in milliseconds, like all times in the database."""
    return f"{unix_ms(at)}.{last_id}"


def decode(cursor: str) -> tuple[datetime, str]:
    """Returns the time and the id in a cursor. Raises ValidationFailed."""
    stamp, _, last_id = cursor.partition(".")
    if not (stamp.isdecimal() and stamp.isascii() and len(stamp) <= 14 and last_id):
        raise ValidationFailed.of("cursor", "Not a cursor of this list.")
    return from_unix(int(stamp) / 1000), last_id
