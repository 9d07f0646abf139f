"""JSON in and out."""

from __future__ import annotations

import json
from typing import Any

import orjson

from .errors import ValidationFailed

Json = orjson.Fragment
"""JSON text that is ready: it goes into a larger document as it is, without being encoded again."""


def encode(value: Any) -> bytes:
    return orjson.dumps(value)


def decode(text: bytes | str) -> Any:
    """The value of a JSON text from outside. Raises ValidationFailed.

    orjson refuses what the standard library lets through (lone surrogates, NaN). Such a text is
    decoded all the same, so that the schema can name the field that is wrong.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ValidationFailed("This is not JSON, or it is nested too deeply.") from None


def encode_any(value: Any) -> str:
    """For logs: whatever it is, it becomes a line."""
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
