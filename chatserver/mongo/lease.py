"""A lease in MongoDB: a document that its owner renews with a heartbeat.

Leases run by the database's clock, so the clocks of the nodes need not agree. A lease that ran out is
never renewed, however late its owner wakes up: another node may already have acted on its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import Collection, Session

HEARTBEAT_TIMEOUT_S = 4.0
"""Time limit of a heartbeat: less than half of every lease, so that there is time for another one."""

ALIVE: Mapping[str, Any] = {"$gt": ["$until", "$$NOW"]}


def after(seconds: float) -> Mapping[str, Any]:
    """An expression for the database's time plus `seconds`."""
    return {"$add": ["$$NOW", int(seconds * 1000)]}


class Lease:
    """Leases of one kind. `more`: further fields, which each heartbeat computes again."""

    def __init__(
        self, collection: Collection, lasts_s: float, more: Mapping[str, Any] | None = None
    ) -> None:
        self._collection = collection
        self._beat = [{"$set": {"until": after(lasts_s), **(more or {})}}]

    async def begin(self, lease_id: str) -> None:
        await self._collection.update_one({"_id": lease_id}, self._beat, upsert=True)

    async def renew(
        self,
        lease_id: str,
        session: Session | None = None,
        say: Mapping[str, bool] | None = None,
    ) -> bool:
        """Renew the lease. Returns False if it ran out.

        `say`: fields about the owner, stored with the heartbeat. With a `session`, no other writer can
        change the lease's document until the transaction ends.
        """
        beat: list[Mapping[str, Any]] = [*self._beat]
        if say:
            beat.append({"$set": say})
        renewed = await self._collection.update_one(
            {"_id": lease_id, "$expr": ALIVE}, beat, session=session
        )
        return renewed.matched_count == 1

    async def end(self, lease_id: str) -> None:
        """Give up the lease now, with a last heartbeat."""
        await self._collection.update_one(
            {"_id": lease_id, "$expr": ALIVE}, [*self._beat, {"$set": {"until": "$$NOW"}}]
        )
