"""Dates of events, written to the database a moment after the events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

from .. import tasks
from ..observability.metrics import Families
from . import CLOSE_S, DatabaseUnavailable, Mongo


class LatestDates:
    """A date field of many documents. A date only moves forward.

    The first date after a quiet time is written immediately. After a write, the next one waits for
    `pace_s`. With a `share` it waits less, if writing then takes at most that fraction of the time.
    """

    def __init__(
        self, mongo: Mongo, collection: str, field: str, *, pace_s: float, share: float = 0.0
    ) -> None:
        self._mongo = mongo
        self._collection = collection
        self._field = field
        self._pace_s = pace_s
        self._share = share
        self._dirty: dict[str, datetime] = {}
        self._touched = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        """Writes the dates. It starts with the first one."""

    def watch(self, metrics: Families) -> None:
        store = f"{self._collection} with a new {self._field}"
        metrics.memory(store, lambda: len(self._dirty), None)

    def touch(self, doc_id: str, at: datetime) -> None:
        self._dirty[doc_id] = at
        self._touched.set()
        if self._task is None:
            self._task = tasks.keep(f"write {self._field}", self._keep_flushing)

    async def _keep_flushing(self) -> None:
        while True:
            if not self._dirty:
                self._touched.clear()
                await self._touched.wait()
            began = time.monotonic()
            # Dates that could not be written are written with the next ones.
            with suppress(DatabaseUnavailable):
                await self.flush()
            took = time.monotonic() - began
            await asyncio.sleep(
                min(self._pace_s, took / self._share) if self._share else self._pace_s
            )

    async def flush(self) -> None:
        """Write all pending dates, and wait for a write that is under way.

        Raises DatabaseUnavailable, or another PyMongoError.
        """
        async with self._lock:
            batch, self._dirty = self._dirty, {}
            if not batch:
                return
            try:
                async with self._mongo.deadline():
                    await self._write(batch)
            except BaseException:  # cancelled or failed: keep the dates for the next write
                self._dirty = {**batch, **self._dirty}
                raise

    async def _write(self, dates: Mapping[str, datetime]) -> None:
        await self._mongo.raise_dates(self._collection, self._field, dates)

    async def close(self) -> None:
        """Write all pending dates. Raises DatabaseUnavailable, or another PyMongoError, if that fails."""
        await tasks.end(self._task)
        async with self._mongo.deadline(CLOSE_S):
            await self.flush()
