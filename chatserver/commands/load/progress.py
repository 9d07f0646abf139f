"""Shows progress: one line that is updated in place on a terminal, one line per second elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .plan import Plan
from .tally import Tally

EVERY_S = 1.0
SETTING_UP = "setting up"
CONNECTING = "connecting"
TALKING = "talking"
WAITING = "waiting for the rest (Ctrl-C skips this)"


class Progress:
    def __init__(self, plan: Plan, tally: Tally, *, as_json: bool) -> None:
        self._plan = plan
        self._tally = tally
        # With --json, stdout is for the result only.
        self._console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False)
        self._stage = SETTING_UP
        self._since = self._looked = time.perf_counter()
        self._before = (0, 0)

    def enter(self, stage: str) -> None:
        self._stage = stage
        self._since = time.perf_counter()

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        showing = asyncio.create_task(self._show(), name="progress")
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.wait([showing])
            if not showing.cancelled():
                showing.result()

    async def _show(self) -> None:
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(EVERY_S)
                self._console.print(self._line(), markup=False, soft_wrap=True)
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(EVERY_S)
                live.update(Text(self._line()), refresh=True)

    def _line(self) -> str:
        tally, now = self._tally, time.perf_counter()
        acks, deliveries, passed = tally.ack.count, tally.delivered, now - self._looked
        parts = [self._where(now - self._since)]
        if self._stage != SETTING_UP:
            parts.append(f"{tally.connected:,} connected")
        if self._stage == TALKING:
            parts += [
                f"{(acks - self._before[0]) / passed:,.0f} messages/s",
                f"{(deliveries - self._before[1]) / passed:,.0f} deliveries/s",
                f"p99 {tally.ack.at(0.99) * 1000:,.1f} ms",
            ]
        # While the server stalls, p99 is that of earlier messages, so the unanswered ones are shown.
        behind = tally.unanswered > acks - self._before[0]
        if self._stage == WAITING or (self._stage == TALKING and behind):
            parts.append(f"{tally.unanswered:,} without an answer")
        if errors := tally.errors.total():
            parts.append(f"{errors:,} errors")
        self._before, self._looked = (acks, deliveries), now
        return "  ".join(parts)

    def _where(self, seconds: float) -> str:
        if self._stage == TALKING:
            return f"{seconds:.0f} of {self._plan.seconds:g} s"
        return f"{self._stage} {seconds:.0f} s"
