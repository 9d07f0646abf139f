"""The nodes that share the database. Each has a lease there, which it renews with a heartbeat."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import structlog

from ... import tasks
from ...clock import EPOCH
from ...mongo import DatabaseUnavailable, Mongo, Session
from ...mongo.lease import ALIVE, HEARTBEAT_TIMEOUT_S, Lease, after
from ...observability.metrics import Families
from ..outside import ClusterState

log = structlog.get_logger(__name__)

LEASE_S = 12.0
TICK_S = 3.0
"""A dead node is noticed within LEASE_S + TICK_S."""
RESTART_GRACE_S = 15.0
"""How long the users of a node that stopped have to reconnect before they go offline."""
CLAIM_S = 6.0
"""How long a node that takes over a dead node may be silent before another node takes over instead."""
FAREWELL_S = 2.0
"""How long a stopping node tries to give up its lease. A lease that is not given up runs out."""

LeaseGuard = Callable[[Session], Awaitable[None]]
"""Makes sure that a lease cannot be lost before the transaction ends. Raises LeaseLost."""


class LeaseLost(Exception):
    """The lease ran out, or another node claimed it. Another node may already have acted on that."""


@dataclass(frozen=True, slots=True)
class EndedLease:
    """A lease that ran out or was given up."""

    lease: str
    seen_at: datetime
    """The time of its last heartbeat."""


class Records(Protocol):
    """The records under leases (see Presence)."""

    async def take_over(self, ended: EndedLease, guard: LeaseGuard) -> None:
        """Take over the records of an ended lease. It may be called again for the same lease, on any node, until
        it has returned once."""

    def begun(self) -> None:
        """This node has started a lease other than its first."""


class Nodes:
    """This node among the nodes that share the database.

    A lease that ran out is never renewed, because other nodes may have acted on its end. A node that was
    frozen, or could not reach the database, starts a new lease.

    Exactly one node takes over the records of an ended lease. It does so `restart_grace_s` after the last
    heartbeat of that lease. It also waits as long after the start of its own lease: users could not
    reconnect while no node was running.

    Leases make up for lost announcements: when a node's lease ends, or says that the node is cut off from
    the others, the other nodes catch up on the changes that it could not announce.
    """

    def __init__(
        self,
        mongo: Mongo,
        cluster: ClusterState,
        node_id: str,
        *,
        grace_s: float,
        version: Mapping[str, Any],
    ) -> None:
        """`version`: fields that tell the other nodes which version this one is."""
        self._mongo = mongo
        self._cluster = cluster
        self._node_id = node_id
        self._version = version
        self.restart_grace_s = max(grace_s, RESTART_GRACE_S)
        back_by = after(self.restart_grace_s)
        self._lease = Lease(
            mongo.nodes, LEASE_S, {"node": node_id, "seenAt": "$$NOW", "backBy": back_by, **version}
        )
        self._term = 0
        self._begun_at = 0.0
        self._renewed_at = time.monotonic()
        self._alive: dict[str, str] = {}
        """The node of each lease that was alive at the last heartbeat."""
        self._older = False
        self._lost = 0
        self._records: Records
        self._hurry = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._inheriting: asyncio.Task[None] | None = None

    @property
    def lease(self) -> str:
        """The lease under which this node records presence now."""
        return f"{self._node_id}.{self._term}"

    def is_ours(self, lease: str) -> bool:
        """True if this is or was a lease of this node."""
        return lease.rpartition(".")[0] == self._node_id

    @property
    def count(self) -> int:
        """The number of nodes that were alive at the last heartbeat."""
        return len(set(self._alive.values()))

    def lost(self) -> int:
        """Returns how many other nodes have died, as far as this one has noticed."""
        return self._lost

    def are_older(self) -> bool:
        """True if a node of an earlier schema was alive at the last heartbeat."""
        return self._older

    def watch(self, metrics: Families) -> None:
        metrics.memory("leases of nodes", lambda: len(self._alive), None)
        metrics.gauge("chat_nodes", "Nodes that share the database.", lambda: self.count)
        metrics.gauge(
            "chat_node_lease_age_seconds",
            f"Time since this node renewed its lease. After {LEASE_S:g} s the node counts as dead.",
            lambda: time.monotonic() - self._renewed_at,
        )
        metrics.counter(
            "chat_node_leases_lost_total",
            "Leases of this node that ran out, so that it started a new one.",
            lambda: max(0, self._term - 1),
        )

    def hurry(self) -> None:
        """Send the next heartbeat now."""
        self._hurry.set()

    async def guard(self, lease: str, session: Session) -> None:
        """Make sure that this node keeps the lease until the transaction ends. Raises LeaseLost."""
        if not await self._lease.renew(lease, session):
            self._hurry.set()
            raise LeaseLost

    async def start(self, records: Records) -> None:
        self._records = records
        async with self._mongo.deadline():
            await self._begin()
        self._beating = tasks.keep("renew the lease", self._beat)

    async def close(self) -> None:
        """Stop, and give up the lease so that the other nodes need not wait until it runs out."""
        await tasks.end(self._beating)
        await tasks.end(self._inheriting)
        try:
            async with self._mongo.deadline(FAREWELL_S):
                await self._lease.end(self.lease)
        except DatabaseUnavailable:
            log.warning("the node could not give up its lease, which now runs out")

    # --- the heartbeat --------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            self._hurry.clear()
            try:
                async with self._mongo.deadline(HEARTBEAT_TIMEOUT_S):
                    await self._look()
            except DatabaseUnavailable:
                log.warning("renewing the node's lease waits for the database")
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
        if not await self._lease.renew(self.lease, say={"cutOff": self._cluster.cut_off}):
            log.warning("the node's lease ran out, starting a new one", lease=self.lease)
            await self._begin()
            self._records.begun()
        self._renewed_at = time.monotonic()
        alive: dict[str, str] = {}
        due: list[EndedLease] = []
        stopped: set[str] = set()
        unheard = older = False
        fields = {
            "node": 1,
            "seenAt": 1,
            "alive": ALIVE,
            "over": {"$lte": ["$backBy", "$$NOW"]},
            "cutOff": 1,
            "stopped": {"$eq": ["$until", "$seenAt"]},
            **dict.fromkeys(self._version, 1),
        }
        known = {self._node_id, *self._alive.values()}
        async for doc in await self._mongo.nodes.aggregate([{"$project": fields}]):
            if doc["alive"]:
                alive[doc["_id"]] = doc["node"]
                unheard |= doc.get("cutOff", False) and doc["node"] != self._node_id
                older |= doc.get("schema", 0) < self._version["schema"]
                if doc["node"] not in known:
                    version = {name: doc.get(name) for name in self._version}
                    log.info("found another node", node=doc["node"], **version)
            elif doc["over"]:
                due.append(EndedLease(doc["_id"], doc["seenAt"]))
            if doc["stopped"]:
                stopped.add(doc["_id"])
        if older and not self._older:
            # It may have brought users into conversations before this node read where they are.
            self._cluster.missed()
        self._older = older
        if unheard:
            self._cluster.missed()
        before, self._alive = self._alive, alive
        for lease, node in before.items():
            if lease in alive or node == self._node_id:
                continue
            if lease in stopped:
                log.info("a node has stopped", node=node)
            else:
                log.warning("a node has lost its lease", node=node)
                self._lost += 1
            # It may be back already, or come back later, like a new node.
            self._cluster.missed()
        if time.monotonic() - self._begun_at < self.restart_grace_s:
            return
        if due and (self._inheriting is None or self._inheriting.done()):
            # In a task of its own, because it can take longer than this node's lease lasts.
            self._inheriting = asyncio.get_running_loop().create_task(self._take_over(due))

    # --- taking over from dead nodes ------------------------------------------------------------

    async def _take_over(self, due: list[EndedLease]) -> None:
        for ended in due:
            claimant = self.lease
            try:
                async with self._mongo.deadline():
                    if not await self._claim(ended.lease, claimant):
                        continue
                await self._records.take_over(
                    ended, partial(self._guard_claim, ended.lease, claimant)
                )
                async with self._mongo.deadline():
                    await self._mongo.nodes.delete_one({"_id": ended.lease, "claimant": claimant})
            except LeaseLost:
                log.warning("another node has taken over first", lease=ended.lease)
            except DatabaseUnavailable:
                log.warning("taking over waits for the database", lease=ended.lease)
                return

    async def _claim(self, lease: str, claimant: str) -> bool:
        free = {"$lte": [{"$ifNull": ["$claimedUntil", EPOCH]}, "$$NOW"]}
        claimed = await self._mongo.nodes.update_one(
            {"_id": lease, "$expr": {"$and": [{"$not": ALIVE}, free]}},
            # Dead for good, even if the clock of the database's next primary is behind.
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
