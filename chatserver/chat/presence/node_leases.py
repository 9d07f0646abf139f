"""Which nodes there are: each has a lease in the database and keeps it alive by a heart beat."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from ... import tasks
from ...clock import EPOCH
from ...mongo import DatabaseUnavailable, Mongo, PyMongoError, Session, deadline
from ...mongo.lease import ALIVE, Lease, after
from ...observability.metrics import Families

log = structlog.get_logger(__name__)

LEASE_S = 12.0
TICK_S = 3.0
"""A dead node is noticed within LEASE_S + TICK_S."""
RESTART_GRACE_S = 15.0
"""How long those who were online on a node that ended have to come back before they are offline."""
CLAIM_S = 6.0
"""How long whoever takes over a dead node may be silent before another one does it."""
FAREWELL_S = 2.0
"""A courtesy: a lease that is not ended runs out."""

LeaseGuard = Callable[[Session], Awaitable[None]]
"""Makes sure, until the transaction ends, that the lease it guards has not been lost. Raises LeaseLost."""


class LeaseLost(Exception):
    """Somebody else may have acted already."""


@dataclass(frozen=True, slots=True)
class EndedLease:
    """A lease that ran out, or was given up."""

    lease: str
    seen_at: datetime
    """Of its last heart beat."""


class Nodes:
    """This node among those that share the database.

    A node lives under one lease after another: one that ran out is never renewed, for the others may
    have acted on its end. A node that was frozen, or could not reach the database, begins a new one.

    What was recorded under an ended lease is taken over by exactly one of the others, who calls
    `inherit(ended, guard)`: after `restart_grace_s`, counted from the end of the lease and from the
    start of this node, for where there was no node nobody could come back. It may be called again for
    the same lease, here or elsewhere, until it has returned once.

    `begun()` is called when this node has begun another lease than its first.
    """

    inherit: Callable[[EndedLease, LeaseGuard], Awaitable[None]]
    begun: Callable[[], None]
    cut_off: Callable[[], bool] = staticmethod(lambda: False)
    """Whether this node cannot tell the others what happens on it."""
    unheard: Callable[[], None] = staticmethod(lambda: None)
    """Called with each heart beat while that is so of another one."""

    def __init__(self, mongo: Mongo, node_id: str, *, grace_s: float) -> None:
        self._mongo = mongo
        self._node_id = node_id
        self.restart_grace_s = max(grace_s, RESTART_GRACE_S)
        back_by = after(self.restart_grace_s)
        self._lease = Lease(
            mongo.nodes, LEASE_S, {"node": node_id, "seenAt": "$$NOW", "backBy": back_by}
        )
        self._term = 0
        self._begun_at = 0.0
        self._renewed_at = time.monotonic()
        self._alive: dict[str, str] = {}
        """The node of each lease that was alive at the last look."""
        self._gone: list[Callable[[str], None]] = []
        self._hurry = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._inheriting: asyncio.Task[None] | None = None

    @property
    def lease(self) -> str:
        """Under what this node records things now."""
        return f"{self._node_id}.{self._term}"

    def is_ours(self, lease: str) -> bool:
        """Whether it is this node's lease, or was."""
        return lease.rpartition(".")[0] == self._node_id

    @property
    def count(self) -> int:
        """How many nodes were alive at the last look."""
        return len(set(self._alive.values()))

    def watch(self, metrics: Families) -> None:
        metrics.gauge("chat_nodes", "Nodes that share the database.", lambda: self.count)
        metrics.gauge(
            "chat_node_lease_age_seconds",
            f"Since this node renewed its lease; after {LEASE_S:g} s the others take it for dead.",
            lambda: time.monotonic() - self._renewed_at,
        )
        metrics.counter(
            "chat_node_leases_lost_total",
            "How often this node was away for too long, and began anew.",
            lambda: max(0, self._term - 1),
        )

    def on_gone(self, tell: Callable[[str], None]) -> None:
        """`tell(node_id)` is called, on every node, when another one has ended or lost its lease.

        That one may be back already, or come back: it is then as good as new.
        """
        self._gone.append(tell)

    def hurry(self) -> None:
        """The next heart beat is now."""
        self._hurry.set()

    async def guard(self, lease: str, session: Session) -> None:
        """Make sure that the lease is ours until the transaction ends. Raises LeaseLost."""
        if not await self._lease.renew(lease, session):
            self._hurry.set()
            raise LeaseLost

    async def start(self) -> None:
        async with deadline():
            await self._begin()
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def close(self) -> None:
        """Tell the others at once that this node has ended."""
        await tasks.end(self._beating)
        await tasks.end(self._inheriting)
        try:
            async with deadline(FAREWELL_S):
                await self._lease.end(self.lease)
        except DatabaseUnavailable:
            log.warning("the other nodes are not told that this one ends")

    # --- the heart beat -------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._hurry.clear()
            try:
                async with deadline():
                    await self._look()
            except DatabaseUnavailable:
                log.warning("the node waits for the database")
            except PyMongoError:
                # Without a heart beat the others would take this node for dead: it goes on.
                log.exception("the node cannot renew its lease")
            try:
                async with asyncio.timeout(TICK_S * random.uniform(0.8, 1.0)):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _begin(self) -> None:
        self._term += 1
        await self._lease.begin(self.lease)
        self._begun_at = self._renewed_at = time.monotonic()

    async def _look(self) -> None:
        if not await self._lease.renew(self.lease, say={"cutOff": self.cut_off()}):
            log.warning("the node was away for too long and begins anew", lease=self.lease)
            await self._begin()
            self.begun()
        self._renewed_at = time.monotonic()
        alive: dict[str, str] = {}
        due: list[EndedLease] = []
        stopped: set[str] = set()
        unheard = False
        fields = {
            "node": 1,
            "seenAt": 1,
            "alive": ALIVE,
            "over": {"$lte": ["$backBy", "$$NOW"]},
            "cutOff": 1,
            "stopped": {"$eq": ["$until", "$seenAt"]},
        }
        async for doc in await self._mongo.nodes.aggregate([{"$project": fields}]):
            if doc["alive"]:
                alive[doc["_id"]] = doc["node"]
                unheard |= doc.get("cutOff", False) and doc["node"] != self._node_id
            elif doc["over"]:
                due.append(EndedLease(doc["_id"], doc["seenAt"]))
            if doc["stopped"]:
                stopped.add(doc["_id"])
        if unheard:
            self.unheard()
        before, self._alive = self._alive, alive
        for lease, node in before.items():
            if lease in alive or node == self._node_id:
                continue
            if lease in stopped:
                log.info("a node has stopped", node=node)
            else:
                log.warning("a node is gone", node=node)
            for tell in self._gone:
                tell(node)
        if time.monotonic() - self._begun_at < self.restart_grace_s:
            return
        if due and (self._inheriting is None or self._inheriting.done()):
            # Aside: it can take longer than the lease lasts.
            self._inheriting = asyncio.get_running_loop().create_task(self._take_over(due))

    # --- what others leave behind ---------------------------------------------------------------

    async def _take_over(self, due: list[EndedLease]) -> None:
        for ended in due:
            claimant = self.lease
            try:
                async with deadline():
                    if not await self._claim(ended.lease, claimant):
                        continue
                await self.inherit(ended, partial(self._guard_claim, ended.lease, claimant))
                async with deadline():
                    await self._mongo.nodes.delete_one({"_id": ended.lease, "claimant": claimant})
            except LeaseLost:
                log.warning("another node was quicker to take over", lease=ended.lease)
            except DatabaseUnavailable:
                log.warning("taking over waits for the database", lease=ended.lease)
                return

    async def _claim(self, lease: str, claimant: str) -> bool:
        free = {"$lte": [{"$ifNull": ["$claimedUntil", EPOCH]}, "$$NOW"]}
        claimed = await self._mongo.nodes.update_one(
            {"_id": lease, "$expr": {"$and": [{"$not": ALIVE}, free]}},
            # Dead for good, also where the clock of the database's next primary is behind.
            [{"$set": {"until": EPOCH, "claimant": claimant, "claimedUntil": after(CLAIM_S)}}],
        )
        return claimed.matched_count == 1

    async def _guard_claim(self, lease: str, claimant: str, session: Session) -> None:
        guarded = await self._mongo.nodes.update_one(
            {"_id": lease, "claimant": claimant},
            [{"$set": {"claimedUntil": after(CLAIM_S)}}],
            session=session,
        )
        if not guarded.matched_count:
            raise LeaseLost
