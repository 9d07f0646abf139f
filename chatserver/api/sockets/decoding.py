"""Decodes the text of an event into its name and arguments."""

from __future__ import annotations

import re
from typing import Any

from ... import json_codec
from ...errors import PayloadTooLarge, ValidationFailed

MAX_PACKET = 64 * 1024
MAX_FRAME = 256 * 1024
"""A larger frame closes the connection (1009). A packet over MAX_PACKET in a smaller frame gets an error."""

_NAME = re.compile(rb'\[\s*"([^"\\]{1,100})"')


def read(text: bytes) -> list[Any]:
    """Returns the event's name, a string, followed by its arguments. Raises ChatError."""
    if len(text) > MAX_PACKET:
        raise PayloadTooLarge(f"A packet may have at most {MAX_PACKET} bytes.")
    event: list[Any] = json_codec.decode(text)
    if not event:
        raise ValidationFailed("An event must have a name.")
    if not isinstance(event[0], str):
        raise ValidationFailed("The name of an event must be a string.")
    return event


def name_of(text: bytes) -> str | None:
    """Returns the name of an undecoded event, or None if it cannot be recognised."""
    named = _NAME.match(text)
    return named.group(1).decode(errors="replace") if named else None
