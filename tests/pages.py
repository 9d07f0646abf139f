"""The pages of this project, as what can be checked of them: blocks of code, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .servers import ROOT

NOT_OURS = {".venv", "node_modules", "build", "data"}
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
        """Of a shell: without comments and what stands between."""
        bare = [re.sub(r"\s+# .*", "", line) for line in self.text.splitlines()]
        return [line for line in bare if line and not line.startswith("#")]


@cache
def pages() -> list[Path]:
    found = [one.relative_to(ROOT) for one in ROOT.rglob("*.md")]
    return sorted(one for one in found if not NOT_OURS & {*one.parts})


def text(page: Path | str) -> str:
    return (ROOT / page).read_text()


def blocks(page: Path | str) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(text(page))]


def block(page: Path | str, first: str) -> Block:
    (found,) = [one for one in blocks(page) if one.first == first]
    return found


def links(page: Path) -> Iterator[str]:
    yield from LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text(page))))


@cache
def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?)\s*$", FENCE.sub("", text(page)), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = 0
        while (one := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(one)
    return found
