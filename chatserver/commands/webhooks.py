"""`chatserver webhooks`: shows pending, failing and dead events, and replays them.

The running server does the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from .. import development
from . import terminal
from .internal_api import AsJson, AtServer, Server, add_row, ask, new_table, print_json, show

commands = typer.Typer(
    help="Show pending, failing and dead webhook events, and replay them.", no_args_is_help=True
)

OfEndpoint = Annotated[str | None, typer.Option("--endpoint", help="Only this endpoint.")]
OfType = Annotated[
    str | None, typer.Option("--type", help="Only events of this type, such as message.created.")
]
OfConversation = Annotated[
    str | None, typer.Option("--conversation", help="Only events of this conversation.")
]


@commands.command()
def status(server: AtServer = None, as_json: AsJson = False) -> None:
    """Show each endpoint's pending events, failing keys and dead letters, and the running relays."""
    answer = asyncio.run(ask(Server(server), "GET", "/webhooks"))
    if as_json:
        print_json(answer)
        return
    limit = answer["countedUpTo"]
    table = new_table("endpoint", "url", "pending", "oldest", "failing", "dead")
    for endpoint in answer["endpoints"]:
        counts = [_count(endpoint[key], limit) for key in ("pending", "failing", "dead")]
        oldest = _lasting(endpoint["lag"]) if endpoint["oldestPendingAt"] else "-"
        url = endpoint["url"] or "(not configured)"
        add_row(table, endpoint["name"], url, counts[0], oldest, counts[1], counts[2])
    show(table, "No endpoint is configured: set WEBHOOK_URL or WEBHOOKS_FILE.")
    failing = new_table("endpoint", "conversation or user", "attempts", "since", "next", "error")
    for endpoint in answer["endpoints"]:
        for key in endpoint["worst"]:
            since, next_at, error = key["since"], key["nextAt"], key["error"]
            add_row(
                failing, endpoint["name"], key["key"], str(key["attempts"]), since, next_at, error
            )
    if failing.row_count:
        typer.echo("\nFailing, oldest first:")
        show(failing, "")
    relays = [
        f"{relay['id']} ({relay['partitions']} of 16 partitions)" for relay in answer["relays"]
    ]
    typer.echo(f"\nRunning relays: {', '.join(relays) or 'none'}")


@commands.command()
def dead(
    endpoint: OfEndpoint = None,
    type_: OfType = None,
    conversation: OfConversation = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 50,
    server: AtServer = None,
    as_json: AsJson = False,
) -> None:
    """List the dead letters (events that were given up), newest first."""
    asked = _given(endpoint=endpoint, type=type_, conversationId=conversation)
    items, more = asyncio.run(_collect(Server(server), asked, limit))
    if as_json:
        print_json({"items": items, "more": more})
        return
    table = new_table(
        "event", "type", "endpoint", "conversation or user", "given up", "attempts", "error"
    )
    for item in items:
        key = item.get("conversationId") or item["userId"]
        event = item["id"], item["type"], item["endpoint"], key
        add_row(table, *event, item["diedAt"], str(item["attempts"]), item["error"])
    show(table, "There are no dead letters.")
    if more:
        typer.echo(f"There are more: --limit {limit * 2}")


@commands.command()
def replay(
    id_: Annotated[
        list[str] | None, typer.Option("--id", help="This event (evt_…). Can be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From this time on: 2h, 7d, or 2026-11-21T09:30:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Before this time, in the same form. Default: now.")
    ] = None,
    type_: OfType = None,
    conversation: OfConversation = None,
    endpoint: OfEndpoint = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters.")] = False,
    server: AtServer = None,
    as_json: AsJson = False,
) -> None:
    """Send events again, with their old ids, to one endpoint or to all that are configured for them.

    Select them with --id, --since, --type, --conversation or --dead. An event must match all options.
    --type alone covers the last 7 days, for which all events are kept.
    """
    if not (id_ or since or type_ or conversation or dead):
        terminal.fail(
            "Select the events: --id, --since, --type, --conversation or --dead.", terminal.MISUSED
        )
    selection = _given(
        ids=id_ or None,
        since=_moment("--since", since),
        until=_moment("--until", until),
        type=type_,
        conversationId=conversation,
        endpoint=endpoint,
        dead=dead or None,
    )
    replayed, gone = asyncio.run(_replay(Server(server), selection))
    if as_json:
        print_json({"replayed": replayed, "gone": gone})
        return
    typer.echo(f"{_events(replayed)} will be sent again.")
    if gone:
        typer.echo(f"{_events(gone)} cannot be sent: no longer stored.")


@commands.command()
def forget(
    endpoint: Annotated[str, typer.Argument(help="An endpoint that is no longer configured.")],
    server: AtServer = None,
    as_json: AsJson = False,
) -> None:
    """Drop the pending events and dead letters of an endpoint that is no longer configured."""
    dropped = asyncio.run(_forget(Server(server), endpoint))
    if as_json:
        print_json({"dropped": dropped})
    else:
        typer.echo(f"{endpoint}: dropped {dropped:,} pending events, back-offs and dead letters.")


# --- the server -------------------------------------------------------------------------------------


async def _collect(
    server: Server, asked: Mapping[str, Any], limit: int
) -> tuple[list[Mapping[str, Any]], bool]:
    items: list[Mapping[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        size = min(limit - len(items), 200)
        page = await ask(server, "GET", "/webhooks/dead", params={**asked, **cursor, "limit": size})
        items += page["items"]
        more = page["nextCursor"] is not None
        if not more or len(items) >= limit:
            return items, more
        cursor = {"cursor": page["nextCursor"]}


async def _replay(server: Server, selection: Mapping[str, Any]) -> tuple[int, int]:
    replayed = gone = 0
    cursor: dict[str, str] = {}
    while True:
        done = await ask(server, "POST", "/webhooks/replay", json={**selection, **cursor})
        replayed += done["replayed"]
        gone += done["gone"]
        if not done["nextCursor"]:
            return replayed, gone
        typer.echo(f"{_events(replayed)} so far …", err=True)
        cursor = {"cursor": done["nextCursor"]}


async def _forget(server: Server, endpoint: str) -> int:
    dropped = 0
    while True:
        done = await ask(server, "DELETE", f"/webhooks/{quote(endpoint, safe='')}")
        dropped += done["dropped"]
        if not done["more"]:
            return dropped
        typer.echo(f"{dropped:,} so far …", err=True)


# --- words ------------------------------------------------------------------------------------------


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _moment(option: str, text: str | None) -> str | None:
    """The time to send to the server. A duration means that long ago."""
    if text is None or "T" in text or "-" in text:
        return text
    try:
        ago = development.duration(text)
        return (datetime.now(UTC) - ago).isoformat()
    except (ValueError, OverflowError):
        terminal.fail(
            f"{option}: {text!r} is neither a duration such as 30m, 2h or 7d "
            "nor a time such as 2026-11-21T09:30:00Z.",
            terminal.MISUSED,
        )


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


def _count(count: int, limit: int) -> str:
    return f"{limit:,} or more" if count >= limit else f"{count:,}"


def _lasting(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit} ago"
    return f"{seconds:.1f}s ago"
