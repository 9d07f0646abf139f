"""The text of an event: its name and its arguments."""

from __future__ import annotations

import re
from typing import Any

from ... import json_codec
from ...errors import PayloadTooLarge, ValidationFailed

MAX_PACKET = 64 * 1024
MAX_FRAME = 256 * 1024
"""What is larger closes the connection (1009); what is larger than a packet may be gets an answer."""

_NAME = re.compile(rb'\[\s*"([^"\\]{1,100})"')


def read(text: bytes) -> list[Any]:
    """Its name, a string, and then its arguments. Raises ChatError."""
    if len(text) > MAX_PACKET:
        raise PayloadTooLarge(f"A packet has at most {MAX_PACKET} bytes.")
    event: list[Any] = json_codec.decode(text)
    if not event:
        raise ValidationFailed("An event has a name.")
    if not isinstance(event[0], str):
        raise ValidationFailed("The name of an event is a string.")
    return event


def name_of(text: bytes) -> str | None:
    """The name of an event that is not decoded, as far as can be seen."""
    named = _NAME.match(text)
    return named.group(1).decode(errors="replace") if named else None
