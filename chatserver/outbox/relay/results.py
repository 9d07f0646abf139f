"""Stores the results of deliveries, many in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from ...clock import now
from ...mongo import (
    DEAD_RETENTION_S,
    RETENTION_S,
    DatabaseUnavailable,
    Document,
    Mongo,
    Session,
)
from ..endpoints import slots_of
from ..event import dead_letter_id
from ..pending import Pending

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The back-off of one ordering key from one endpoint: its reason and its end. Stored in `holds`."""

    endpoint: str
    ordering_key: str
    partition: int
    since: datetime
    """The first failure since the last success."""
    attempts: int
    next_at: datetime
    error: str

    @property
    def id(self) -> str:
        return backoff_id(self.endpoint, self.ordering_key)

    @classmethod
    def from_doc(cls, doc: Document) -> Backoff:
        return cls(
            doc["endpoint"],
            doc["lane"],
            doc["partition"],
            doc["since"],
            doc["attempts"],
            doc["nextAt"],
            doc["error"],
        )

    def doc(self, head: Pending) -> Document:
        return {
            "_id": self.id,
            "endpoint": self.endpoint,
            "lane": self.ordering_key,
            "partition": self.partition,
            "since": self.since,
            "attempts": self.attempts,
            "nextAt": self.next_at,
            "error": self.error,
            "record": head.id,
            "key": head.key,
            "eventAt": head.at,
        }


def backoff_id(endpoint: str, ordering_key: str) -> str:
    return f"{endpoint}|{ordering_key}"


class _Batch:
    def __init__(self) -> None:
        self.done: dict[tuple[str, str], list[str]] = {}
        """Ids of delivered records, by collection and endpoint."""
        self.backoffs: dict[str, Document | None] = {}
        """By id. None removes a back-off."""
        self.dead_letters: list[Document] = []
        """Their records are also taken out of `due`."""
        self.written = asyncio.get_running_loop().create_future()


class Results:
    """Each method returns when a majority has journaled its result, however long the database is away.

    Results that arrive during a write are stored together in the next one.
    """

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._next = _Batch()
        self._writing: asyncio.Task[None] | None = None

    async def delivered(
        self, endpoint: str, delivered: Iterable[Pending], *, ends_backoff_of: str | None
    ) -> None:
        """`ends_backoff_of`: the ordering key, if it has a stored back-off."""
        for pending in delivered:
            self._next.done.setdefault((pending.collection, endpoint), []).append(pending.id)
        if ends_backoff_of is not None:
            self._next.backoffs[backoff_id(endpoint, ends_backoff_of)] = None
        await self._write()

    async def backing_off(self, backoff: Backoff, head: Pending) -> None:
        self._next.backoffs[backoff.id] = backoff.doc(head)
        await self._write()

    async def backoff_over(self, endpoint: str, ordering_key: str) -> None:
        """Remove the back-off of a key that has no due event left."""
        self._next.backoffs[backoff_id(endpoint, ordering_key)] = None
        await self._write()

    async def dead_letter(self, endpoint: str, pending: Pending, attempts: int, error: str) -> None:
        """Turn a given-up event into a dead letter. The endpoint receives it only if it is replayed."""
        at = now()
        self._next.dead_letters.append(
            {
                "_id": dead_letter_id(endpoint, pending.id),
                "endpoint": endpoint,
                "record": pending.id,
                "collection": pending.collection,
                "type": pending.type,
                "key": pending.key,
                "eventAt": pending.at,
                "diedAt": at,
                "attempts": attempts,
                "error": error,
                "expiresAt": at + timedelta(seconds=DEAD_RETENTION_S),
            }
        )
        await self._write()

    async def _write(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._keep_writing())
        # No shield, which would cost as much as signing: no caller is ever cancelled while it waits.
        await self._next.written

    async def _keep_writing(self) -> None:
        while self._next.done or self._next.backoffs or self._next.dead_letters:
            batch, self._next = self._next, _Batch()
            pause = 0.1
            while True:
                try:
                    async with self._mongo.deadline():
                        await self._store(batch)
                    break
                except DatabaseUnavailable:
                    log.warning("the results of deliveries wait for the database")
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 2.0)
                except Exception as error:  # raised in every caller that waits for the batch
                    batch.written.set_exception(error)
                    break
            if not batch.written.done():
                batch.written.set_result(None)

    async def _store(self, batch: _Batch) -> None:
        if batch.dead_letters:
            await self._mongo.transaction(partial(self._store_dead_letters, batch.dead_letters))
        writes = [self._settle(*where, ids, RETENTION_S) for where, ids in batch.done.items()]
        if batch.backoffs:
            kept = [doc for doc in batch.backoffs.values() if doc is not None]
            gone = [id_ for id_, doc in batch.backoffs.items() if doc is None]
            if kept:
                writes.append(self._mongo.put("holds", kept))
            if gone:
                writes.append(self._mongo.remove("holds", gone))
        if len(writes) == 1:
            await writes[0]
        else:
            await asyncio.gather(*writes)

    async def _store_dead_letters(self, dead_letters: list[Document], session: Session) -> None:
        """Store dead letters and take their records out of `due`, in one transaction.

        A replay between the two could remove the dead letter of an event that then leaves `due`.
        """
        await self._mongo.put("deadletters", dead_letters, session=session)
        records: dict[tuple[str, str], list[str]] = {}
        for doc in dead_letters:
            records.setdefault((doc["collection"], doc["endpoint"]), []).append(doc["record"])
        for where, ids in records.items():
            await self._settle(*where, ids, DEAD_RETENTION_S, session)

    async def _settle(
        self,
        collection: str,
        endpoint: str,
        ids: list[str],
        keep_s: int,
        session: Session | None = None,
    ) -> None:
        # Log entries are kept as long as their conversation.
        expires_at = now() + timedelta(seconds=keep_s) if collection == "outbox" else None
        await self._mongo.not_due(
            collection, ids, slots_of(endpoint), expires_at=expires_at, session=session
        )
