"""Repairs: what nodes of an earlier version do not write is written by the nodes of this version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import structlog

from ..clock import now
from ..mongo import Mongo, PyMongoError
from ..mongo.failures import is_down
from ..mongo.schema import LISTS

log = structlog.get_logger(__name__)

Repair = Callable[[datetime], Awaitable[None]]
"""Completes what has been written since that time by the clock of any node. It may run on several nodes at once."""


class Repairs:
    """Runs all repairs while nodes of an earlier version write, and once more after the last one. When a node has died, which
    may have had something to write behind the log, it runs one of them."""

    EVERY_S = 5.0
    SETTLE_S = 10.0
    """The last older node may be about to start again. Until it has been away for this long, it counts as there."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._repairs: Sequence[Repair] = ()
        """The first one is that of a death."""
        self._from: datetime | None = None
        """The time since which nodes of an earlier version may have written."""
        self._others_are_older: Callable[[], bool] = lambda: False

    @property
    def are_due(self) -> bool:
        """True if something that nodes of an earlier version have written may not be repaired yet."""
        return self._from is not None or self._others_are_older()

    async def start(self, after_a_death: Repair, *others: Repair) -> None:
        """Repair what has been written since the database was upgraded, unless that has been done."""
        self._repairs = (after_a_death, *others)
        state = await self._mongo.schema.find_one({"_id": LISTS}) or {}
        self._from = state.get("from")
        if self._from is not None:
            await self._run(self._from)

    async def _run(self, since: datetime) -> None:
        for repair in self._repairs if self.are_due else self._repairs[:1]:
            await repair(since)

    async def keep_up(self, others_are_older: Callable[[], bool], lost: Callable[[], int]) -> None:
        """Runs until cancelled. `lost` counts the nodes that have died."""
        self._others_are_older = others_are_older
        done = now()
        older_at = time.monotonic()
        seen = lost()
        while True:
            await asyncio.sleep(self.EVERY_S)
            if older := others_are_older():
                older_at = time.monotonic()
            if lost() == seen and not older and self._from is None:
                done = now()
                continue
            seen = lost()
            began = now()
            try:
                if older and self._from is None:
                    self._from = done
                    await self._mongo.schema.update_one(
                        {"_id": LISTS}, {"$min": {"from": done}}, upsert=True
                    )
                await self._run(done)
                away_s = time.monotonic() - older_at
                if self._from is not None and away_s > self.SETTLE_S:
                    await self._mongo.schema.update_one({"_id": LISTS}, {"$unset": {"from": ""}})
                    self._from = None
                done = began
            except PyMongoError as error:
                if not is_down(error):
                    raise
                log.warning("a repair waits for the database")
