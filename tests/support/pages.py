"""The pages of this project: their blocks of code, links and headings, for checks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .servers import ROOT

NOT_OURS = {"node_modules", "build", "data", "hello"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def lines(self) -> list[str]:
        """The lines of a shell block, without comments and empty lines."""
        bare = [re.sub(r"\s+# .*", "", line) for line in self.text.splitlines()]
        return [line for line in bare if line and not line.startswith("#")]


@cache
def tree() -> list[Path]:
    """Returns all folders and files."""
    found = []
    for folder, inner, files in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in NOT_OURS and not name.startswith(".")]
        found += [Path(folder, name).relative_to(ROOT) for name in (*inner, *files)]
    return sorted(found)


def pages() -> list[Path]:
    return [path for path in tree() if path.suffix == ".md"]


def text(page: Path | str) -> str:
    return (ROOT / page).read_text()


def blocks(page: Path | str) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(text(page))]


def block(page: Path | str, first: str) -> Block:
    (found,) = [block for block in blocks(page) if block.first == first]
    return found


def names(page: Path) -> Iterator[str]:
    """Yields the names of files and folders between backticks."""
    kinds = "py|ts|tsx|mjs|css|html|md|svg|json|toml|cfg|conf|yaml|yml|env"
    for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text(page))):
        if found := re.fullmatch(
            rf"(?:\./)?((?:[\w.-]+/)*[\w.-]+\.(?:{kinds})|(?:[\w-]+/)+)", span
        ):
            yield found[1].rstrip("/")


def links(page: Path) -> Iterator[str]:
    yield from LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text(page))))


@cache
def anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings, as GitHub generates them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", FENCE.sub("", text(page)), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found
