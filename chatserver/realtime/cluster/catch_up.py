"""Decides when a node has to look for changes that it missed, and whether it may rely on what it remembers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from ..rooms.sequencer import Unreadable

log = structlog.get_logger(__name__)

POLL_S = 1.0
"""How often the record is asked while the bus is down."""
PAUSE_S = 0.1
LONGEST_PAUSE_S = 4.0
"""Between two looks. One that took more than a quarter of this has mostly waited, for the database or for
rooms: a rest of four times as long could be a minute, without going by what is remembered here."""
BEAT_S = 0.25
STALLED_S = 0.75
"""With BEAT_S, less than others wait for an answer: whoever could not answer may have missed what it was
asked."""
UNNOTICED_S = 30.0
"""How long it may take until it is noticed that something was not told: by the lease of a node that died,
at the latest."""
LATE_S = 10.0
"""How long after the moment that it bears, by the database's clock, something may come to be on record."""


class CatchUp:
    """`look(seconds)` looks for what was missed: nothing that is on record since longer than that. It may
    raise Unreadable. `up()`: whether the bus is."""

    def __init__(self, look: Callable[[float], Awaitable[None]], up: Callable[[], bool]) -> None:
        self._look = look
        self._up = up
        self._missed = asyncio.Event()
        self._caught_up = False
        self._beat_at = self._complete_until = time.monotonic()

    @property
    def forgets(self) -> float:
        """What was delivered before this moment (by the monotonic clock) is not looked for any more."""
        return self._complete_until - LATE_S

    @property
    def in_sync(self) -> bool:
        """Whether this node knows everything that happened on the other nodes.

        False in a process that has just been woken up, until it has caught up: the other nodes have not
        waited for it.
        """
        return self._caught_up and not self._stood_still()

    def missed(self) -> None:
        """This node may have missed something."""
        self._caught_up = False
        self._missed.set()

    async def run(self, missed: Callable[[], None]) -> None:
        """Look whenever something may have been missed, until cancelled. `missed()` is called when this
        process stood still."""
        beating = asyncio.create_task(self._beat(missed))
        try:
            while True:
                await self._missed.wait()
                self._missed.clear()
                began = time.monotonic()
                read = await self._try_to_look(began - self._complete_until + LATE_S)
                if read:
                    self._complete_until = max(self._complete_until, began)
                # However often something is missed, about a fifth of the time goes into it at most.
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

    async def _try_to_look(self, seconds: float) -> bool:
        try:
            await self._look(seconds)
        except Unreadable:
            return False
        except Exception:  # it is looked for again
            log.exception("what was missed cannot be found")
            return False
        return True

    def _stood_still(self) -> bool:
        return time.monotonic() - self._beat_at > BEAT_S + STALLED_S

    async def _beat(self, missed: Callable[[], None]) -> None:
        while True:
            if self._stood_still():
                seconds = round(time.monotonic() - self._beat_at, 1)
                log.warning("the node stood still", seconds=seconds)
                missed()
            self._beat_at = time.monotonic()
            if self._caught_up:
                self._complete_until = max(self._complete_until, self._beat_at - UNNOTICED_S)
            await asyncio.sleep(BEAT_S)
