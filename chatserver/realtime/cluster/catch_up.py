"""Decides when a node catches up, and whether it is in sync."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)

POLL_S = 1.0
"""The time between two catch-ups while the bus is down."""
PAUSE_S = 0.1
LONGEST_PAUSE_S = 4.0
"""The longest pause between two catch-ups. The pause is four times as long as the catch-up took, but a
catch-up that took more than a second mostly waited, for the database or for rooms. Without this limit the
pause could be a minute, and until the next catch-up the node cannot rely on its memory."""
BEAT_S = 0.25
STALLED_S = 0.75
"""BEAT_S and STALLED_S together are as long as other nodes wait for an acknowledgement. A node that stalled
for longer may have missed a request."""
UNNOTICED_S = 30.0
"""The longest time until a lost announcement is noticed. At the latest, the expired lease of a dead node reveals
it."""
LATE_S = 10.0
"""How long after its timestamp, by the database's clock, a record may become readable."""


class CatchUp:
    """Decides when to look for what the node may have missed. `up()` returns True while the bus is up."""

    def __init__(self, up: Callable[[], bool]) -> None:
        self._up = up
        self._missed = asyncio.Event()
        self._caught_up = False
        self._beat_at = self._complete_until = time.monotonic()

    @property
    def forgets(self) -> float:
        """Catch-up no longer finds notices that were delivered before this moment of the monotonic clock."""
        return self._complete_until - LATE_S

    @property
    def in_sync(self) -> bool:
        """True if this node knows everything that happened on the other nodes.

        False after the process stalled, until it has caught up: the other nodes did not wait for it.
        """
        return self._caught_up and not self._stood_still()

    def missed(self) -> None:
        """Request a catch-up: this node may have missed something."""
        self._caught_up = False
        self._missed.set()

    async def run(
        self, look: Callable[[float], Awaitable[bool]], missed: Callable[[], None]
    ) -> None:
        """Catch up whenever something may have been missed, until cancelled.

        `look(seconds)` reads what was stored in the last `seconds`, and returns False if it could not read all.
        `missed()` is called when this process stalled.
        """
        beating = asyncio.create_task(self._beat(missed))
        try:
            while True:
                await self._missed.wait()
                self._missed.clear()
                began = time.monotonic()
                read = await self._try(look, began - self._complete_until + LATE_S)
                if read:
                    self._complete_until = max(self._complete_until, began)
                # Catch-up takes at most about a fifth of the time, however often something is missed.
                took = time.monotonic() - began
                pause = min(max(PAUSE_S, 4 * took), LONGEST_PAUSE_S)
                if read and self._up() and not self._missed.is_set():
                    self._caught_up = True
                else:
                    self._missed.set()
                    pause = max(POLL_S, pause)
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))
        finally:
            beating.cancel()

    async def _try(self, look: Callable[[float], Awaitable[bool]], seconds: float) -> bool:
        try:
            return await look(seconds)
        except Exception:  # the next catch-up tries again
            log.exception("the catch-up failed")
            return False

    def _stood_still(self) -> bool:
        return time.monotonic() - self._beat_at > BEAT_S + STALLED_S

    async def _beat(self, missed: Callable[[], None]) -> None:
        while True:
            if self._stood_still():
                seconds = round(time.monotonic() - self._beat_at, 1)
                log.warning("the node stalled", seconds=seconds)
                missed()
            self._beat_at = time.monotonic()
            if self._caught_up:
                self._complete_until = max(self._complete_until, self._beat_at - UNNOTICED_S)
            await asyncio.sleep(BEAT_S)
