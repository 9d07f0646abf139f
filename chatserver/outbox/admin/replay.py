"""Sending again: events of the past become due once more."""

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
"""A request that has looked at RECORDS_LIMIT records, or for this long, leaves the rest to the next one."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """`gone`: dead letters whose event is not kept any more. `cursor`: None when all is done."""

    replayed: int
    gone: int
    cursor: str | None


class Replays:
    """Marks what is selected as due; the relays send it in the order of the records.

    What is due already stays due once. A dead letter that is sent again leaves the list. An endpoint
    is never sent an event of a type that it does not want.
    """

    def __init__(self, mongo: Mongo, endpoints: Sequence[Endpoint]) -> None:
        self._mongo = mongo
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}

    async def replay(self, selection: Selection) -> Replayed:
        """Send again what is selected; as much as one request has time for.

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
            # So that the relays look again at what is due.
            await self._mongo.relays.update_one(
                {"_id": WAKEUP_ID}, {"$inc": {"rings": 1}}, upsert=True
            )
        return Replayed(replayed, gone, cursor)

    def _among(self, name: str | None) -> list[Endpoint]:
        if name is None:
            return list(self._endpoints.values())
        if name not in self._endpoints:
            known = ", ".join(self._endpoints) or "there are none"
            raise ValidationFailed.of("endpoint", f"No such endpoint is configured: {known}.")
        return [self._endpoints[name]]

    async def _mark(self, found: Sequence[FoundRecord]) -> None:
        if not found:
            return
        # The relay writes the dead letter first and takes the slot out of `due` after it: between the two
        # the dead letter has to stay.
        dead_letter_ids = [
            dead_letter_id(endpoint_of(slot), record.id)
            for record in found
            for slot in record.slots
            if slot not in record.due
        ]
        dead_letters = self._mongo.deadletters.find(
            {"_id": {"$in": dead_letter_ids}}, {"diedAt": 1}
        )
        # As they are before the mark: an event that dies again after it has a later dead letter.
        seen = await dead_letters.to_list()
        expires_at = now() + timedelta(seconds=RETENTION_S)
        for collection in (self._mongo.log, self._mongo.outbox):
            records = [record for record in found if record.collection == collection.name]
            ids: dict[tuple[str, ...], list[str]] = {}
            for record in records:
                ids.setdefault(record.slots, []).append(record.id)
            # An edit is told with the text of its message: both have to be there.
            also = {record.message_id for record in records if record.message_id}
            if ids:
                await self._mongo.due_again(
                    collection.name, ids, also=list(also), expires_at=expires_at
                )
        if seen:
            await self._mongo.remove_unchanged("deadletters", seen)
