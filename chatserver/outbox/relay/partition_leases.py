"""Distributes the partitions among the relays."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from ...mongo import DatabaseUnavailable, DuplicateKeyError, Mongo, new_id
from ...mongo.lease import ALIVE, HEARTBEAT_TIMEOUT_S, Lease
from ..endpoints import PARTITIONS

log = structlog.get_logger(__name__)

LEASE_S = 9.0
TICK_S = 3.0
"""Seconds between two rounds. A dead relay's partitions are taken over within LEASE_S + TICK_S."""
LEAVE_S = 0.2
"""Seconds between two rounds while this relay has partitions to give up."""


class Leases:
    """The partitions of this relay, kept by a heartbeat.

    A relay whose heartbeat is late loses all of its partitions and starts again under another id, because
    other relays may have taken the partitions.

    `checked` is called after each round. `quiet(partition)`: True if nothing of the partition is in
    flight.
    """

    def __init__(
        self, mongo: Mongo, checked: Callable[[], None], quiet: Callable[[int], bool]
    ) -> None:
        self._mongo = mongo
        self._lease = Lease(mongo.relays, LEASE_S)
        self._checked = checked
        self._quiet = quiet
        self._id = new_id()
        self._valid_until = 0.0
        self.partitions: frozenset[int] = frozenset()
        """The partitions to work on."""
        self._leaving: frozenset[int] = frozenset()
        """More than this relay's share, since another relay started. Each is given up when nothing of it is in
        flight."""

    @property
    def term(self) -> tuple[str, frozenset[int]]:
        """This relay's id and partitions. When either changes, the relay must start over."""
        return self._id, self.partitions

    @property
    def valid(self) -> bool:
        """True while no other relay can have taken the partitions."""
        return time.monotonic() < self._valid_until

    async def run(self) -> None:
        while True:
            try:
                async with self._mongo.deadline(HEARTBEAT_TIMEOUT_S):
                    await self._look()
            except DatabaseUnavailable:
                log.warning("the relay waits for the database")
            self._checked()
            await asyncio.sleep(LEAVE_S if self._leaving else TICK_S * random.uniform(0.8, 1.0))

    async def release(self) -> None:
        """Give up all partitions immediately."""
        self._valid_until = 0.0
        async with self._mongo.deadline():
            await self._mongo.relays.delete_one({"_id": self._id})

    async def _look(self) -> None:
        # Taken before the request: the lease cannot have started earlier.
        asked_at = time.monotonic()
        if not await self._lease.renew(self._id):
            self._valid_until = 0.0
            self._id = new_id()
            self.partitions = self._leaving = frozenset()
            await self._lease.begin(self._id)
        alive, expired, owners = await self._all()
        if not expired.isdisjoint(owners.values()):
            await self._remove_expired(expired)
            alive, expired, owners = await self._all()
        if self._id not in alive:
            return  # the lease ran out during this round; the next round starts another
        mine = frozenset(partition for partition, owner in owners.items() if owner == self._id)
        share = math.ceil(PARTITIONS / len(alive))
        if len(mine) <= share:
            free = [
                partition
                for partition in range(PARTITIONS)
                if owners.get(partition) not in alive | expired
            ]
            random.shuffle(free)
            taken = [
                partition
                for partition in free[: share - len(mine)]
                if await self._take(partition, owners.get(partition))
            ]
            self.partitions, self._leaving = mine.union(taken), frozenset()
        else:
            leaving, left = frozenset(sorted(mine)[share:]), self._leaving
            self.partitions, self._leaving = mine - leaving, leaving
            # Only partitions that an earlier round removed from `partitions`: until `checked` is called,
            # deliveries still start in the others.
            for partition in leaving & left:
                if self._quiet(partition):
                    await self._mongo.relays.update_one(
                        {"_id": _name(partition), "owner": self._id}, {"$set": {"owner": None}}
                    )
        self._valid_until = asked_at + LEASE_S

    async def _remove_expired(self, expired: set[str]) -> None:
        """Delete the leases that ran out. A relay without a lease cannot come back. The read alone does not
        prove that a lease ran out: it may be older than the relay's last heartbeat."""
        await self._mongo.relays.delete_many({"_id": {"$in": [*expired]}, "$expr": {"$not": ALIVE}})

    async def _all(self) -> tuple[set[str], set[str], dict[int, str | None]]:
        """The relays with a valid lease, those with an expired one, and the owner of each partition."""
        cursor = await self._mongo.relays.aggregate(
            [{"$project": {"owner": 1, "until": 1, "alive": ALIVE}}]
        )
        alive: set[str] = set()
        expired: set[str] = set()
        owners: dict[int, str | None] = {}
        async for doc in cursor:
            if isinstance(doc.get("until"), datetime):
                (alive if doc["alive"] else expired).add(doc["_id"])
            elif "owner" in doc:
                owners[int(doc["_id"][1:])] = doc["owner"]
        return alive, expired, owners

    async def _take(self, partition: int, owner: str | None) -> bool:
        """Take a partition from a dead owner. Returns False if another relay was faster."""
        try:
            taken = await self._mongo.relays.update_one(
                {"_id": _name(partition), "owner": owner},
                {"$set": {"owner": self._id}},
                upsert=owner is None,
            )
        except DuplicateKeyError:
            return False
        return taken.matched_count == 1 or taken.upserted_id is not None


def _name(partition: int) -> str:
    return f"p{partition:02d}"
