"""HTML: whatever is put into a tag is escaped, unless it is a tag."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Iterable[str] | None


def tag(name: str, *content: Content, **attributes: str) -> Markup:
    """An element. A name that Python has for itself ends with an underscore: `class_="quiet"`."""
    said = "".join(f' {key.rstrip("_")}="{escape(one)}"' for key, one in attributes.items())
    return Markup(f"<{name}{said}>{joined(*content)}</{name}>")


def joined(*content: Content) -> Markup:
    parts: list[str] = []
    for one in content:
        if isinstance(one, Markup):
            parts.append(one)
        elif isinstance(one, str):
            parts.append(escape(one))
        elif one is not None:
            parts.append(joined(*one))
    return Markup("".join(parts))


def prose(text: str) -> Markup:
    """A text in which `this` is code."""
    parts = re.split(r"`([^`]+)`", text)
    return joined(*(tag("code", one) if n % 2 else one for n, one in enumerate(parts)))


def code(text: str) -> Markup:
    return tag("code", text)


def path(text: str) -> Markup:
    """A path, which may go on in the next line behind each slash."""
    parts = re.split(r"(?<=[^/]/)", text)
    return tag(
        "code", *(joined(Markup("<wbr>") if n else None, one) for n, one in enumerate(parts))
    )


def paragraphs(text: str) -> Markup:
    return joined(*(tag("p", prose(" ".join(one.split()))) for one in text.split("\n\n")))
