"""Repairs: what nodes of an earlier version do not write is written by the nodes of this version."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
    """Runs all repairs while nodes of an earlier version write, and once more after the last one. Also when a node has
    died, which may have had something to write behind the log."""

    EVERY_S = 5.0

    def __init__(self, mongo: Mongo, *repairs: Repair) -> None:
        self._mongo = mongo
        self._repairs = repairs
        self._from: datetime | None = None
        """The time since which nodes of an earlier version may have written."""

    async def start(self) -> None:
        state = await self._mongo.schema.find_one({"_id": LISTS}) or {}
        self._from = state.get("from")
        if self._from is not None:
            await self._run(self._from)

    async def _run(self, since: datetime) -> None:
        for repair in self._repairs:
            await repair(since)

    async def keep_up(self, others_are_older: Callable[[], bool], lost: Callable[[], int]) -> None:
        """Runs until cancelled. `lost` counts the nodes that have died."""
        done = now()
        seen = lost()
        while True:
            await asyncio.sleep(self.EVERY_S)
            older = others_are_older()
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
                if not older and self._from is not None:
                    await self._mongo.schema.update_one({"_id": LISTS}, {"$unset": {"from": ""}})
                    self._from = None
                done = began
            except PyMongoError as error:
                if not is_down(error):
                    raise
                log.warning("a repair waits for the database")
