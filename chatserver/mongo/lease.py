"""A lease in MongoDB: a document that is kept alive by a heart beat.

By the database's clock: the clocks of the nodes need not agree. An id whose lease ran out never lives
again, however late its owner wakes up: whoever found it dead may have acted on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import Collection, Session

ALIVE: Mapping[str, Any] = {"$gt": ["$until", "$$NOW"]}


def after(seconds: float) -> Mapping[str, Any]:
    """That long from the database's now."""
    return {"$add": ["$$NOW", int(seconds * 1000)]}


class Lease:
    """Leases of one kind. `more`: other fields that each beat computes anew."""

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
        """False when it ran out. `say`: what else is to be known of its owner from now on.

        In a transaction, nobody can change the lease's document until the transaction ends.
        """
        beat: list[Mapping[str, Any]] = [*self._beat]
        if say:
            beat.append({"$set": say})
        renewed = await self._collection.update_one(
            {"_id": lease_id, "$expr": ALIVE}, beat, session=session
        )
        return renewed.matched_count == 1

    async def end(self, lease_id: str) -> None:
        """Give it up now, with a last beat."""
        await self._collection.update_one(
            {"_id": lease_id, "$expr": ALIVE}, [*self._beat, {"$set": {"until": "$$NOW"}}]
        )
