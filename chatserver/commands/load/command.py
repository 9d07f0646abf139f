"""`chatserver load`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from .. import terminal
from ..client.commands import Target, Url, WsUrl, run
from .plan import Plan

CONNECTS_PER_S = 200
RATE = 50.0


def load(
    users: Annotated[
        int, typer.Option(min=2, max=50_000, help="Connected, with a socket each.")
    ] = 50,
    conversations: Annotated[
        int, typer.Option(min=1, max=50_000, help="Groups that they are in.")
    ] = 10,
    members: Annotated[
        int | None,
        typer.Option(min=2, max=1000, help="Of each; else the users are dealt out evenly."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400, help="So long they talk.")] = 10.0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=100_000,
            help="Messages a second, of all together, sent by the clock; else 50.",
        ),
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(
            min=1, max=20_000, help="Instead of --rate: as fast as so many under way can be."
        ),
    ] = None,
    ramp: Annotated[
        float | None,
        typer.Option(
            min=0, max=86_400, help="Connect over so many seconds; else 200 users a second."
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=20, max=10_000, help="Characters of a message.")] = 80,
    settle: Annotated[
        float,
        typer.Option(
            min=0.1, max=86_400, help="Lost is what has not come so many seconds after the end."
        ),
    ] = 15.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result for programs; progress goes to stderr.")
    ] = False,
    url: Url = None,
    ws_url: WsUrl = None,
    sure: Annotated[
        bool,
        typer.Option(
            "--yes-load-this-server", help="Also when it is not on 127.0.0.1, or production."
        ),
    ] = False,
) -> None:
    """Drive a server with many users, and see what becomes of what they say.

    They connect, talk, and check all that they hear: each message that was
    acknowledged has to come to each member, once and in order.

    Ends with the times and counts, and with code 1 if anything was lost, came
    twice or out of order, or had no answer, or somebody could not connect.
    Users (load-00000 and so on) and their conversations stay, for the next time.
    """
    target = Target.of(url, ws_url)
    if rate and in_flight:
        terminal.fail("Give --rate or --in-flight, not both.", terminal.MISUSED)
    if target.away and not sure:
        terminal.fail(
            f"{target.away} is not on this machine: say --yes-load-this-server if you may load it.",
            terminal.MISUSED,
        )
    if target.settings.production and not sure:
        terminal.fail(
            "ENV is production: say --yes-load-this-server if its users may wait.", terminal.MISUSED
        )
    each = members or max(2, -(-users // conversations))
    if each > min(users, 1000):
        terminal.fail(
            f"A conversation would have {each:,} members: at most all users, and 1,000. Set --members.",
            terminal.MISUSED,
        )
    plan = Plan(
        users=users,
        conversations=conversations,
        members=each,
        seconds=seconds,
        ramp_s=users / CONNECTS_PER_S if ramp is None else ramp,
        rate=None if in_flight else rate or RATE,
        in_flight=in_flight or 0,
        size=size,
        settle_s=settle,
    )
    run(lambda: _load(target, plan, as_json=as_json))


async def _load(target: Target, plan: Plan, *, as_json: bool) -> None:
    from .load import drive  # noqa: PLC0415  the other commands start faster without

    try:
        fine = await drive(target, plan, as_json=as_json)
    except asyncio.CancelledError:
        terminal.fail("It was ended before anything was said.")
    if not fine:
        raise typer.Exit(terminal.FAILED)
