"""Makes users' text safe to print: a terminal would obey control characters in it."""

from __future__ import annotations

import json
from typing import Any

from ... import json_codec

JOINERS = "\u200c\u200d"
"""Zero-width joiners. Some languages and many emoji need them, and terminals do not obey them."""


def on_one_line(text: str) -> str:
    """The text for people: characters that move the cursor or change the writing direction are replaced."""
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def as_json(value: Any) -> str:
    """JSON for programs, in which unprintable characters are escaped. JSON allows many of them unescaped, but
    some terminals obey them and some programs end a line at them."""
    text = json_codec.encode(value).decode()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _shown(char: str) -> str:
    if char.isprintable() or char in JOINERS:
        return char
    if char == "\n":
        return " ⏎ "
    # Tabs, and the special spaces of French and Japanese.
    return " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
