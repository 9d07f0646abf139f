"""A run from its beginning to its table."""

from __future__ import annotations

import asyncio
import time

import aiohttp

from .. import garbage, terminal, wire
from ..client.api import Api, as_master
from ..client.commands import Target
from .crowd import Crowd
from .plan import Plan
from .report import echo, print_result, progress_console, result, show_progress
from .tally import Tally


async def drive(target: Target, plan: Plan, *, as_json: bool) -> bool:
    """Whether nothing was lost, twice or out of order. Raises Away, Refused, Failed."""
    tally = Tally()
    crowd = Crowd(plan, tally)
    cut_short = False
    # As many connections as there are users.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        echo(
            f"{plan.users:,} users, {plan.conversations:,} conversations of {plan.members:,}, at "
            f"{target.ws_urls[0]}; Ctrl-C ends it early.",
            as_json=as_json,
        )
        await crowd.set_up(Api(http, target.url, as_master(target.secret)))
        progress = asyncio.create_task(
            show_progress(tally, progress_console(as_json=as_json)), name="progress"
        )
        try:
            async with crowd.connected(http, target):
                garbage.settle()
                began, cpu = time.perf_counter(), time.process_time()
                try:
                    await crowd.talk()
                except asyncio.CancelledError:
                    # A signal: what was said until then is worth its table.
                    cut_short = True
                    if task := asyncio.current_task():
                        task.uncancel()
                seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
                expected, lost = await crowd.settle()
        finally:
            progress.cancel()
            await asyncio.wait([progress])
    found = result(
        tally,
        expected=expected,
        lost=lost,
        seconds=seconds,
        cpu_s=cpu_s,
        cut_short=cut_short,
    )
    if as_json:
        echo(wire.encode(found).decode(), as_json=False)
    else:
        print_result(found, terminal.console())
    return bool(found["ok"])
