"""Builds HTML. The content of a tag is escaped, unless it is Markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable[str] | None


def tag(name: str, *content: Content, **attributes: str) -> Markup:
    """Returns an element. Python's reserved words take an underscore: `class_="quiet"`."""
    pairs = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{pairs}>{joined(*content)}</{name}>")


def joined(*content: Content) -> Markup:
    parts: list[str] = []
    for part in content:
        if isinstance(part, Markup):
            parts.append(part)
        elif isinstance(part, str):
            parts.append(escape(part))
        elif part is not None:
            parts.append(joined(*part))
    return Markup("".join(parts))


def prose(text: str) -> Markup:
    """Returns a text as HTML, with `this` as code."""
    parts = re.split(r"`([^`]+)`", text)
    return joined(*(tag("code", part) if n % 2 else part for n, part in enumerate(parts)))


def code(text: str) -> Markup:
    return tag("code", text)


def path(text: str) -> Markup:
    """Returns a path as code. It may wrap after each slash."""
    parts = re.split(r"(?<=[^/]/)", text)
    return tag(
        "code", *(joined(Markup("<wbr>") if n else None, part) for n, part in enumerate(parts))
    )


def paragraphs(text: str) -> Markup:
    return joined(
        *(tag("p", prose(" ".join(paragraph.split()))) for paragraph in text.split("\n\n"))
    )
