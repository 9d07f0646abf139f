"""What users write, so that it cannot be taken for orders by the terminal of whoever reads it."""

from __future__ import annotations

import json
from typing import Any

from ... import json_codec

JOINERS = "\u200c\u200d"
"""Words of some languages, and many emoji, are not written without them; a terminal does nothing else
for them."""


def on_one_line(text: str) -> str:
    """For a person: without what moves the cursor, and without what turns the direction of reading."""
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def as_json(value: Any) -> str:
    """For a program: what is neither printed nor ASCII is escaped. Some terminals obey it even so, and
    some programs end a line at it."""
    text = json_codec.encode(value).decode()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _shown(char: str) -> str:
    if char.isprintable() or char in JOINERS:
        return char
    if char == "\n":
        return " ⏎ "
    # A tab, and the spaces of French and Japanese.
    return " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
