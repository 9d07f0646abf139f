"""Draws the ratios in the tables of a page as a picture.

usage: python -m benchmark.plot docs/performance.md > docs/performance.svg
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

SHOWN = {
    "fanout": {"server µs": "CPU per delivery"},
    "persisted": {"server µs": "CPU per delivery, persisted"},
    "typing": {"server µs": "CPU per typing event"},
    "connections": {"server µs": "CPU per connect", "KB/client": "memory per idle client"},
}
"""Scenario → the columns that are drawn."""
COLOURS = {"chatserver": "#2f81f7", "realtime": "#2f81f7", "bare C": "#8b949e", "stock": "#d29922"}
LEGEND = {
    "this project": "realtime",
    "bare send() in C": "bare C",
    "stock python-socketio": "stock",
}
MOST = 2.0
"""The longest bar, as a multiple of the peer. Longer bars are cut off."""
LEFT, WIDTH, BAR, GAP, TOP = 330, 340, 11, 12, 46
RATIO = re.compile(r"\(×([\d.]+)\)")  # noqa: RUF001  a times sign


@dataclass(frozen=True)
class Bar:
    case: str
    server: str
    ratio: float


def bars(page: str) -> Iterator[Bar]:
    shown: dict[str, str] = {}
    head: list[str] = []
    for line in page.splitlines():
        if line.startswith("### "):
            shown, head = SHOWN.get(line[4:].split(":")[0], {}), []
        elif line.startswith("| ") and shown:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            head = head or cells
            for column, what in shown.items():
                if cells[1] in COLOURS and (found := RATIO.search(cells[head.index(column)])):
                    yield Bar(f"{what}, {cells[0]}", cells[1], float(found[1]))


def picture(all_bars: list[Bar]) -> str:
    y, parts, case = TOP, [], ""
    for bar in sorted(all_bars, key=lambda bar: [other.case for other in all_bars].index(bar.case)):
        if bar.case != case:
            y += GAP if case else 0
            case = bar.case
            parts.append(text(LEFT - 8, y + BAR - 1, case, "end"))
        length = min(bar.ratio, MOST) / MOST * WIDTH
        parts.append(
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 1}" '
            f'fill="{COLOURS[bar.server]}"/>'
        )
        parts.append(text(LEFT + length + 4, y + BAR - 2, f"{bar.ratio:g}", "start"))
        y += BAR
    node = LEFT + WIDTH / MOST
    parts.append(
        f'<line x1="{node}" y1="{TOP - 6}" x2="{node}" y2="{y + 6}" stroke="#3fb950" '
        'stroke-dasharray="4 3"/>'
    )
    parts.append(text(node, TOP - 10, "Node = 1", "middle"))
    x = 10
    for name, server in LEGEND.items():
        parts.append(f'<rect x="{x}" y="6" width="10" height="10" fill="{COLOURS[server]}"/>')
        parts.append(text(x + 14, 15, name, "start"))
        x += 170
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 50} {y + 14}" '
            'font-family="sans-serif" font-size="11" fill="#848d97">',
            *parts,
            "</svg>",
        ]
    )


def text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


if __name__ == "__main__":
    print(picture(list(bars(Path(sys.argv[1]).read_text()))))
