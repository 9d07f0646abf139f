"""One run, from the setup to the printed result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine

import aiohttp
import typer

from ... import json_codec
from ...processes import gc_tuning
from .. import terminal
from ..client.api import Api, as_master
from ..client.commands import Target
from . import files
from .crowd import Crowd
from .plan import Plan
from .progress import CONNECTING, TALKING, WAITING, Progress
from .report import print_result, result
from .talk import DueTimes, Talk
from .tally import Tally


async def drive(target: Target, plan: Plan, *, as_json: bool) -> bool:
    """Run the load. Returns True if nothing went wrong. Raises Unreachable, RefusedByServer, CommandFailed.

    The first cancellation stops the sending, the second one the wait for what is in flight.
    """
    files.allow(plan.users)
    tally, due_times = Tally(), DueTimes()
    crowd = Crowd(plan, tally, due_times.due)
    talk = Talk(plan, tally, due_times, crowd)
    progress = Progress(plan, tally, as_json=as_json)
    typer.echo(
        f"{plan.users:,} users, {plan.conversations:,} conversations of {plan.members:,}, at "
        f"{target.ws_urls[0]}; Ctrl-C stops it early.",
        err=as_json,
    )
    # No limit: each user needs a connection.
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, progress.shown():
        await crowd.set_up(Api(http, target.url, as_master(target.secret)))
        progress.enter(CONNECTING)
        async with crowd.connected(http, target):
            gc_tuning.settle()
            progress.enter(TALKING)
            began, cpu = time.perf_counter(), time.process_time()
            cut_short = await _is_cut_short(talk.run())
            end, cpu = time.perf_counter(), time.process_time() - cpu
            progress.enter(WAITING)
            await _is_cut_short(_all_comes(talk, crowd))
            crowd.count()
    found = result(
        plan,
        tally,
        seconds=max(end, tally.last_ack) - began,
        own_core=cpu / (end - began),
        cut_short=cut_short,
    )
    if as_json:
        typer.echo(json_codec.encode(found))
    else:
        print_result(found, terminal.console())
    return bool(found["ok"])


async def _all_comes(talk: Talk, crowd: Crowd) -> None:
    await talk.answered()
    await crowd.settled()


async def _is_cut_short(doing: Coroutine[None, None, None]) -> bool:
    """True if it was cancelled. The run goes on, so that what was measured until then is printed."""
    try:
        await doing
    except asyncio.CancelledError:
        if task := asyncio.current_task():
            task.uncancel()
        return True
    return False
