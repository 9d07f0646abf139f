"""What is shown: a line while it goes on, a table at the end."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .tally import Tally

EVERY_S = 1.0
BUSY = 0.85
"""Of a core: above it what is measured is this program as much as the server."""


async def show_progress(tally: Tally, console: Console) -> None:
    """A line that is kept up to date on a terminal, and a new one each second elsewhere."""
    began, before = time.perf_counter(), (0, 0)
    if not console.is_terminal:
        while True:
            await asyncio.sleep(EVERY_S)
            console.print(_line(tally, time.perf_counter() - began, before), markup=False)
            before = (tally.ack.count, tally.delivered)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(EVERY_S)
            live.update(Text(_line(tally, time.perf_counter() - began, before)), refresh=True)
            before = (tally.ack.count, tally.delivered)


def _line(tally: Tally, seconds: float, before: tuple[int, int]) -> str:
    acks, deliveries = tally.ack.count - before[0], tally.delivered - before[1]
    parts = [
        f"{seconds:4.0f} s",
        f"{tally.connected:,} connected",
        f"{acks / EVERY_S:,.0f} messages/s",
        f"{deliveries / EVERY_S:,.0f} deliveries/s",
        f"ack p99 {tally.ack.at(0.99) * 1000:,.1f} ms",
    ]
    errors = tally.errors.total()
    return "   ".join([*parts, f"{errors:,} errors"] if errors else parts)


def result(
    tally: Tally, *, expected: int, lost: int, seconds: float, cpu_s: float, cut_short: bool
) -> dict[str, Any]:
    """For programs; and what the table is made of."""
    return {
        "ok": not (lost or tally.twice or tally.out_of_order) and tally.ack.count > 0,
        "cutShort": cut_short,
        "seconds": round(seconds, 2),
        "connected": tally.connect.count - tally.reconnects,
        "reconnected": tally.reconnects,
        "sent": tally.sent,
        "acknowledged": tally.ack.count,
        "messagesPerSecond": round(tally.ack.count / seconds, 1),
        "expected": expected,
        "delivered": expected - lost,
        "deliveriesPerSecond": round(tally.delivered / seconds, 1),
        "lost": lost,
        "twice": tally.twice,
        "outOfOrder": tally.out_of_order,
        "errors": dict(tally.errors.most_common()),
        "ms": {
            "connect": tally.connect.ms(),
            "ack": tally.ack.ms(),
            "delivery": tally.delivery.ms(),
        },
        "ownCore": round(cpu_s / seconds, 2),
    }


def print_result(found: Mapping[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms", no_wrap=True)
    for title in ("p50", "p95", "p99", "max", "count"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, times in found["ms"].items():
        cells = [f"{times[key]:,.1f}" for key in ("p50", "p95", "p99", "max")]
        table.add_row(name, *cells, f"{times['count']:,}")
    console.print("")
    console.print(table)
    console.print("")
    for sentence in _sentences(found):
        console.print(sentence, markup=False)


def _sentences(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{found['acknowledged']:,} of {found['sent']:,} messages acknowledged in {found['seconds']} s"
        f" ({found['messagesPerSecond']:,} a second).",
        f"{found['delivered']:,} of {found['expected']:,} deliveries"
        f" ({found['deliveriesPerSecond']:,} a second): {found['lost']:,} lost, {found['twice']:,} twice,"
        f" {found['outOfOrder']:,} out of order.",
    ]
    if found["reconnected"]:
        lines.append(f"{found['reconnected']:,} connections were lost and made again.")
    if found["errors"]:
        errors = ", ".join(f"{code} {count:,}" for code, count in found["errors"].items())
        lines.append(f"Errors: {errors}.")
    if "RATE_LIMITED" in found["errors"]:
        lines.append("The server limits what a user may send: RATE_LIMITS=off for it lifts that.")
    if found["ownCore"] > BUSY:
        lines.append(
            f"This program used {found['ownCore']:.0%} of its core: the times are its own as well."
            " Run several with fewer users each."
        )
    return lines


def progress_console(*, as_json: bool) -> Console:
    # What a program reads stands alone on the standard output.
    return Console(file=sys.stderr if as_json else sys.stdout, soft_wrap=True, highlight=False)


def echo(sentence: str, *, as_json: bool) -> None:
    typer.echo(sentence, err=as_json)
