"""JSON encoding and decoding."""

from __future__ import annotations

import json
from typing import Any

import orjson

from .errors import ValidationFailed

ESCAPED = 4
"""How many times its limit (see `fits`) a caller's JSON may have in bytes. An escaped character has at most 12, where
the limit counts 4."""

Json = orjson.Fragment
"""Encoded JSON. It is embedded in a larger document without being encoded again."""


def encode(value: Any) -> bytes:
    return orjson.dumps(value)


def decode(text: bytes | str) -> Any:
    """Decodes JSON from a caller. Raises ValidationFailed.

    orjson refuses lone surrogates and NaN. The standard library then decodes them, so that the schema
    can name the invalid field.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ValidationFailed("This is not valid JSON, or it is nested too deeply.") from None


def fits(text: bytes, limit: int) -> bool:
    """Returns True if a caller's JSON has at most `limit` bytes, where an escape counts as its character.

    Many encoders escape whatever is not ASCII, which makes a text up to three times as long.
    """
    if len(text) <= limit:
        return True
    if b"\\u" not in text:
        return False
    try:
        return len(encode(decode(text))) <= limit
    except (TypeError, ValidationFailed):  # it would be refused in any case
        return False


def encode_any(value: Any, **_: Any) -> str:
    """Encodes any value, for logs (a serializer of structlog). Values that JSON cannot express become their
    `repr`."""
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
