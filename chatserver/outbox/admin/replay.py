"""Replay: past events become due again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ...clock import now
from ...errors import ValidationFailed
from ...mongo import RETENTION_S, Mongo
from ..endpoints import Endpoint, endpoint_of
from ..event import dead_letter_id
from ..pending import WAKEUP_ID
from .search import FoundRecord, Search, Selection

RECORDS_LIMIT = 5000
BUDGET_S = 2.0
"""A request stops after RECORDS_LIMIT records or after this long, and leaves the rest to the next request."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """`gone`: dead letters whose event is no longer stored. `cursor`: None when nothing is left to do."""

    replayed: int
    gone: int
    cursor: str | None


class Replays:
    """Marks the selected events as due. The relays then send them in the order of their records.

    An event that is already due is not sent twice. A replayed dead letter is removed from the list. An
    endpoint never receives an event of a type that it is not configured for.
    """

    def __init__(self, mongo: Mongo, endpoints: Sequence[Endpoint]) -> None:
        self._mongo = mongo
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}

    async def replay(self, selection: Selection) -> Replayed:
        """Replay the selected events, as many as one request has time for.

        Raises NotFound for an unknown id, ValidationFailed for an endpoint that is not configured.
        """
        search = Search(self._mongo, self._among(selection.endpoint))
        end = time.monotonic() + BUDGET_S
        looked_at = replayed = gone = 0
        cursor = selection.cursor
        while True:
            page = await search.page(selection, cursor)
            await self._mark(page.found)
            looked_at += page.looked_at
            replayed += len(page.found)
            gone += page.gone
            cursor = page.cursor
            if cursor is None or looked_at >= RECORDS_LIMIT or time.monotonic() > end:
                break
        if replayed:
            # Wakes the relays, which then scan for due events.
            await self._mongo.relays.update_one(
                {"_id": WAKEUP_ID}, {"$inc": {"rings": 1}}, upsert=True
            )
        return Replayed(replayed, gone, cursor)

    def _among(self, name: str | None) -> list[Endpoint]:
        if name is None:
            return list(self._endpoints.values())
        if name not in self._endpoints:
            known = ", ".join(self._endpoints) or "none"
            raise ValidationFailed.of(
                "endpoint", f"Not a configured endpoint. Configured: {known}."
            )
        return [self._endpoints[name]]

    async def _mark(self, found: Sequence[FoundRecord]) -> None:
        if not found:
            return
        # The dead letter of a slot that was due stays: the relay may have written it after the record was
        # read.
        dead_letter_ids = [
            dead_letter_id(endpoint_of(slot), record.id)
            for record in found
            for slot in record.slots
            if slot not in record.due
        ]
        dead_letters = self._mongo.deadletters.find(
            {"_id": {"$in": dead_letter_ids}}, {"diedAt": 1}
        )
        # Read before the events become due: an event that dies again afterwards has a new dead letter, which
        # must stay.
        seen = await dead_letters.to_list()
        expires_at = now() + timedelta(seconds=RETENTION_S)
        for collection in (self._mongo.log, self._mongo.outbox):
            records = [record for record in found if record.collection == collection.name]
            ids: dict[tuple[str, ...], list[str]] = {}
            for record in records:
                ids.setdefault(record.slots, []).append(record.id)
            # The webhook of an edit contains the text of the message, so the message must be kept, too.
            also = {record.message_id for record in records if record.message_id}
            if ids:
                await self._mongo.due_again(
                    collection.name, ids, also=list(also), expires_at=expires_at
                )
        if seen:
            await self._mongo.remove_unchanged("deadletters", seen)
