"""Makes a markdown table of the rows of many rounds: medians, and their ratios to the peer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from .run import Row

Rounds = Mapping[str, Sequence[Row]]
"""Server → its row in each round. All servers have the same rounds, in turns."""


def table(title: str, cases: Mapping[str, Rounds], *, ratios: bool = True) -> str:
    all_rows = [row for rounds in cases.values() for rows in rounds.values() for row in rows]
    columns = list(dict.fromkeys(column for row in all_rows for column in row))
    columns.sort(key="bad".__eq__)  # last
    head = ["case", "server", *columns]
    lines = [f"### {title}", "", _line(head), _line(["---", "---"] + ["---:"] * len(columns))]
    for case, rounds in cases.items():
        peer = list(rounds.values())[-1]
        for server, rows in rounds.items():
            versus = peer if ratios and rows is not peer else None
            lines.append(
                _line([case, server, *(_cell(column, rows, versus) for column in columns)])
            )
    return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: str, rows: Sequence[Row], peer: Sequence[Row] | None) -> str:
    if column not in rows[0]:
        return ""
    if column == "bad":  # a median could hide errors
        return f"{sum(row[column] for row in rows):.0f}"
    value = median(row[column] for row in rows)
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    # Ratios within a round, because a disturbance of minutes affects both servers alike.
    ratios = list(_ratios(column, rows, peer or ()))
    return f"{text} (×{median(ratios):.2f})" if ratios else text  # noqa: RUF001  it is a times sign


def _ratios(column: str, rows: Sequence[Row], peer: Sequence[Row]) -> Iterator[float]:
    for mine, theirs in zip(rows, peer, strict=False):
        if theirs.get(column):
            yield mine[column] / theirs[column]
