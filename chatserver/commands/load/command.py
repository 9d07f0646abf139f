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
        int, typer.Option(min=2, max=50_000, help="Users to connect, with a socket each.")
    ] = 50,
    conversations: Annotated[
        int, typer.Option(min=1, max=50_000, help="Groups in which the users talk.")
    ] = 10,
    members: Annotated[
        int | None,
        typer.Option(
            min=2, max=1000, help="Members of each group. Default: all users, divided evenly."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="How long the users talk.")
    ] = 10.0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=100_000,
            help="Messages per second, of all users together, on a fixed schedule. Default: 50.",
        ),
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=20_000,
            help="Instead of --rate: keep this many messages in flight, as fast as they are answered.",
        ),
    ] = None,
    ramp: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=86_400,
            help="Spread the connects over this many seconds. Default: 200 users per second.",
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=20, max=10_000, help="Characters per message.")] = 80,
    settle: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=86_400,
            help="Deliveries count as lost if they have not arrived this many seconds after the end.",
        ),
    ] = 15.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON. Progress goes to stderr.")
    ] = False,
    url: Url = None,
    ws_url: WsUrl = None,
    sure: Annotated[
        bool,
        typer.Option(
            "--yes-load-this-server",
            help="Run even if ENV is production or the server is not on this machine.",
        ),
    ] = False,
) -> None:
    """Put load on a server, and check every delivery.

    Many users connect and talk. Each acknowledged message must reach each member
    once and in order.

    Prints times and counts. The exit code is 1 if anything was lost, delivered
    twice, out of order or not answered, or if a user could not connect.
    The users (load-00000 and so on) and their conversations stay for the next run.
    """
    target = Target.of(url, ws_url)
    if rate and in_flight:
        terminal.fail("Give --rate or --in-flight, not both.", terminal.MISUSED)
    if target.away and not sure:
        terminal.fail(
            f"{target.away} is not on this machine: use --yes-load-this-server if you are allowed to.",
            terminal.MISUSED,
        )
    if target.settings.production and not sure:
        terminal.fail(
            "ENV is production: use --yes-load-this-server if its users may be slowed down.",
            terminal.MISUSED,
        )
    each = members or max(2, -(-users // conversations))
    if each > min(users, 1000):
        terminal.fail(
            f"A conversation would have {each:,} members: the limit is all users, at most 1,000. Set"
            " --members.",
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
        terminal.fail("Stopped before any message was sent.")
    if not fine:
        raise typer.Exit(terminal.FAILED)
