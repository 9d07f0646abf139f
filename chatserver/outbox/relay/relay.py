"""The relay delivers due events to the endpoints, and shares the work with the relays of other nodes.

MongoDB's change stream delivers new records as they are committed, so an event is normally sent a few
milliseconds after its change, without polling. Events that the stream cannot contain are read from the
index on `due`: when the relay gets its partitions, after a replay, and every SCAN_EVERY_S. The index is
the truth; the stream is only faster.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from ... import tasks
from ...mongo import Document, Mongo, PyMongoError
from ..endpoints import slot_of
from ..event import Event
from ..pending import WAKEUP_ID, Pending, keys_due, ordering_key_of
from ..sinks.sink import Sink
from .batches import Observe
from .deliveries import Deliveries, Retry
from .partition_leases import Leases
from .results import Backoff, Results

if TYPE_CHECKING:
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)

SCAN_EVERY_S = 60.0
ROOM_AGAIN_S = 1.0
"""Seconds until the next scan when there was no room for all queues."""


class Relay:
    """`sinks`: by the names of their endpoints.

    `observe(endpoint, outcome, seconds, since)` is called for each attempt with its outcome (delivered,
    failed, gone), its duration and the time since the change. It is called with `dead` when an event is
    given up."""

    def __init__(
        self,
        mongo: Mongo,
        sinks: Mapping[str, Sink],
        describe: Callable[[Document], Awaitable[Event]],
        retry: Retry,
        *,
        observe: Observe,
        tracing: Tracing | None = None,
    ) -> None:
        self._mongo = mongo
        self._leases = Leases(mongo, self._leases_checked, self._is_quiet)
        self._results = Results(mongo)
        self.deliveries = [
            Deliveries(
                name,
                sink,
                mongo,
                self._leases,
                self._results,
                describe,
                retry,
                observe=observe,
                tracing=tracing,
            )
            for name, sink in sinks.items()
        ]
        self._of_slot: dict[str, Deliveries] = {}
        self._term = self._leases.term
        self._checked = asyncio.Event()
        self._wakeup = asyncio.Event()
        self._following = False

    @property
    def healthy(self) -> bool:
        """True while the relay's lease is valid and it follows the new events of its partitions, if it has any."""
        return self._leases.valid and (self._following or not self._leases.partitions)

    @property
    def share(self) -> int:
        """The number of partitions that this relay owns."""
        return len(self._leases.partitions) if self._leases.valid else 0

    async def run(self) -> None:
        """Deliver until cancelled, also across outages of the database."""
        renewing = tasks.keep("renew the lease", self._leases.run)
        serving = tasks.keep("deliver events", self._serve_terms)
        try:
            await asyncio.gather(renewing, serving)
        finally:
            await tasks.end(renewing)
            await tasks.end(serving)

    async def close(self) -> None:
        """Call after `run`. Waits for events in flight and closes the sinks, then gives up the partitions."""
        await asyncio.gather(*(deliveries.close() for deliveries in self.deliveries))
        if self._leases.valid:
            with contextlib.suppress(PyMongoError):
                await self._leases.release()

    # --- terms ----------------------------------------------------------------------------------

    def _leases_checked(self) -> None:
        self._checked.set()
        if self._leases.term != self._term:
            # Before any further delivery starts: the events in memory may belong to another relay, which may
            # have delivered them.
            self._of_slot = {}
            for deliveries in self.deliveries:
                deliveries.drop(self._leases.partitions)
        for deliveries in self.deliveries:
            deliveries.pump()

    def _is_quiet(self, partition: int) -> bool:
        return all(deliveries.is_quiet(partition) for deliveries in self.deliveries)

    async def _serve_terms(self) -> None:
        while True:
            term = self._term = self._leases.term
            serving = asyncio.create_task(self._serve(term[1]))
            try:
                while self._leases.term == term:
                    await self._checked.wait()
                    self._checked.clear()
                    if serving.done():
                        serving.result()
            finally:
                await tasks.end(serving)

    async def _serve(self, partitions: frozenset[int]) -> None:
        """Deliver the due events of these partitions, until cancelled."""
        self._of_slot = {
            slot_of(deliveries.name, partition): deliveries
            for deliveries in self.deliveries
            for partition in partitions
        }
        while True:
            for deliveries in self.deliveries:
                deliveries.drop(partitions)
            if not partitions:
                await asyncio.Event().wait()
            try:
                await self._follow_changes(partitions)
                reason = "the change stream ended"
            except PyMongoError as error:
                # This includes a resume token that is too old.
                reason = type(error).__name__
            log.warning("the relay lost its change stream and starts again", reason=reason)
            await asyncio.sleep(1.0)

    async def _follow_changes(self, partitions: frozenset[int]) -> None:
        for deliveries in self.deliveries:
            deliveries.queues.scanning = True  # until the first scan is complete
        # The stream is opened before the first scan, so an event that is recorded in between is in both.
        async with self._mongo.changes(self._wanted()) as changes:
            # Before any delivery starts: no key may be sent before its back-off is over.
            await self._resume_backoffs(partitions)
            scanning = tasks.keep("scan", partial(self._keep_scanning, partitions))
            self._following = True
            try:
                async for change in changes:
                    self._on_change(change)
            finally:
                self._following = False
                await tasks.end(scanning)

    # --- changes --------------------------------------------------------------------------------

    def _wanted(self) -> list[Document]:
        recorded = {
            "operationType": "insert",
            "ns.coll": {"$in": ["log", "outbox"]},
            "fullDocument.due": {"$in": list(self._of_slot)},
        }
        wakeup = {"ns.coll": "relays", "documentKey._id": WAKEUP_ID}
        return [
            {"$match": {"$or": [recorded, wakeup]}},
            {"$project": {"ns": 1, "fullDocument": 1}},
        ]

    def _on_change(self, change: Mapping[str, Any]) -> None:
        collection = change["ns"]["coll"]
        if collection == "relays":
            self._wakeup.set()
            return
        doc = change["fullDocument"]
        for slot in doc["due"]:
            if deliveries := self._of_slot.get(slot):
                deliveries.queues.take(ordering_key_of(doc["_id"]), Pending(collection, doc))

    # --- scans ----------------------------------------------------------------------------------

    async def _keep_scanning(self, partitions: frozenset[int]) -> None:
        while True:
            self._wakeup.clear()
            await self._scan_until_done(partitions)
            more = any(deliveries.queues.more for deliveries in self.deliveries)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROOM_AGAIN_S if more else SCAN_EVERY_S):
                    await self._wakeup.wait()

    async def _scan_until_done(self, partitions: frozenset[int]) -> None:
        while True:
            try:
                await self._scan(partitions)
            except PyMongoError as error:
                log.warning("the relay cannot read the due events", reason=type(error).__name__)
                await asyncio.sleep(1.0)
            else:
                return

    async def _resume_backoffs(self, partitions: frozenset[int]) -> None:
        for deliveries in self.deliveries:
            where = {"endpoint": deliveries.name, "partition": {"$in": sorted(partitions)}}
            async for doc in self._mongo.holds.find(where):
                deliveries.resume_backoff(Backoff.from_doc(doc))

    async def _scan(self, partitions: frozenset[int]) -> None:
        for deliveries in self.deliveries:
            # A new queue may belong to a key for which there was no room before, and lack its older events.
            queues = deliveries.queues
            queues.scanning, queues.more = True, False
            async for ordering_key in keys_due(self._mongo, deliveries.name, sorted(partitions)):
                queues.look(ordering_key)
            queues.scanning = False
