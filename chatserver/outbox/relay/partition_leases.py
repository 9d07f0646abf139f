"""Which relay does which share of the work."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from ...mongo import DatabaseUnavailable, DuplicateKeyError, Mongo, deadline, new_id
from ...mongo.lease import ALIVE, Lease
from ..endpoints import PARTITIONS

log = structlog.get_logger(__name__)

LEASE_S = 9.0
TICK_S = 3.0
"""A dead relay's share is taken over within LEASE_S + TICK_S, when the other ones look again."""
LEAVE_S = 0.2
"""How soon it is looked again while there is something to be given up."""


class Leases:
    """The partitions that this relay has, kept by a heart beat.

    A relay whose heart beat came too late has lost all of them, and begins anew under another id:
    whoever found it dead may have taken them.
    `checked` is called after every look at them.
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
        """Too many, since another relay came: given up as soon as nothing of them is in flight."""

    @property
    def term(self) -> tuple[str, frozenset[int]]:
        """What is held, and as whom: another term is to be begun afresh."""
        return self._id, self.partitions

    @property
    def valid(self) -> bool:
        """Whether nobody else can have taken the partitions."""
        return time.monotonic() < self._valid_until

    async def run(self) -> None:
        while True:
            try:
                async with deadline():
                    await self._look()
            except DatabaseUnavailable:
                log.warning("the relay waits for the database")
            self._checked()
            await asyncio.sleep(LEAVE_S if self._leaving else TICK_S * random.uniform(0.8, 1.0))

    async def release(self) -> None:
        """Leave everything to the others, at once."""
        self._valid_until = 0.0
        async with deadline():
            await self._mongo.relays.delete_one({"_id": self._id})

    async def _look(self) -> None:
        # Before the question: what the answer grants begins no earlier.
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
            return  # it took too long: the next look begins anew
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
            # Only what was left at an earlier look: until `checked` is called, deliveries still begin.
            for partition in leaving & left:
                if self._quiet(partition):
                    await self._mongo.relays.update_one(
                        {"_id": _name(partition), "owner": self._id}, {"$set": {"owner": None}}
                    )
        self._valid_until = asked_at + LEASE_S

    async def _remove_expired(self, expired: set[str]) -> None:
        """Take away the leases that ran out. Who is without one is dead for good: of the others, what
        was read may be older than their last heart beat."""
        await self._mongo.relays.delete_many({"_id": {"$in": [*expired]}, "$expr": {"$not": ALIVE}})

    async def _all(self) -> tuple[set[str], set[str], dict[int, str | None]]:
        """Whose lease lasts, whose ran out, and who has which partition."""
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
        """Take a partition from an owner who is no more, unless someone else was quicker."""
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
