"""JSON encoding and decoding."""

from __future__ import annotations

import json
from typing import Any

import orjson

from .errors import ValidationFailed

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


def encode_any(value: Any) -> str:
    """Encodes any value, for logs. Values that JSON cannot express become their `repr`."""
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
