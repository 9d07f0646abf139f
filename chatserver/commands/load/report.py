"""The result of a run, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from .plan import Plan
from .tally import Tally

BUSY = 0.85
"""Share of a core. Above it, the times measure this program as much as the server."""


def result(
    plan: Plan, tally: Tally, *, seconds: float, own_core: float, cut_short: bool
) -> dict[str, Any]:
    """The result as printed by --json; the table shows the same. `seconds`: until the last acknowledgement."""
    wrong = (
        *(tally.lost, tally.twice, tally.out_of_order, tally.unanswered),
        plan.users - tally.there,
    )
    return {
        "ok": not any(wrong) and tally.ack.count > 0,
        "cutShort": cut_short,
        "seconds": round(seconds, 2),
        "users": plan.users,
        "connected": tally.there,
        "reconnected": tally.reconnects,
        "sent": tally.sent,
        "acknowledged": tally.ack.count,
        "unanswered": tally.unanswered,
        "messagesPerSecond": round(tally.ack.count / seconds, 1),
        "expected": tally.expected,
        "delivered": tally.expected - tally.lost,
        "deliveriesPerSecond": round(tally.delivered / seconds, 1),
        "lost": tally.lost,
        "twice": tally.twice,
        "outOfOrder": tally.out_of_order,
        "errors": dict(tally.errors.most_common()),
        "ms": {
            "connect": tally.connect.ms(),
            "ack": tally.ack.ms(),
            "delivery": tally.delivery.ms(),
        },
        "ownCore": round(own_core, 2),
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
        f" ({found['messagesPerSecond']:,} per second).",
        f"{found['delivered']:,} of {found['expected']:,} deliveries"
        f" ({found['deliveriesPerSecond']:,} per second): {found['lost']:,} lost, {found['twice']:,} twice,"
        f" {found['outOfOrder']:,} out of order.",
    ]
    if found["unanswered"]:
        lines.append(
            f"{found['unanswered']:,} messages were not answered by the end: the times do not include them,"
            " so the server was slower than they suggest."
        )
    if found["connected"] < found["users"]:
        lines.append(f"Only {found['connected']:,} of {found['users']:,} users could connect.")
    if found["reconnected"]:
        lines.append(f"{found['reconnected']:,} connections were lost and re-established.")
    if found["errors"]:
        errors = ", ".join(f"{code} {count:,}" for code, count in found["errors"].items())
        lines.append(f"Errors: {errors}.")
    if "RATE_LIMITED" in found["errors"]:
        lines.append(
            "The server limits each user's rate: start it with RATE_LIMITS=off to lift that."
        )
    if found["ownCore"] > BUSY:
        lines.append(
            f"This program used {found['ownCore']:.0%} of its core, so the times include its own delays."
            " Run several instances with fewer users each."
        )
    return lines
