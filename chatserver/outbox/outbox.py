"""Records the events that are not log entries: those of conversations, participants and users.

Changes of messages and reactions, and the deletion of a conversation, need no record here: their log
entry is the outbox record.

The records of one ordering key (a conversation or a user) are sent in the order of their ids, across both
collections. A conversation's record sorts right after the log entry that was the last one when the record
was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from .. import json_codec
from ..mongo import RETENTION_S, Document, Mongo, Session
from ..observability import spans
from .endpoints import Routes
from .event import OutboxRecord


class Outbox:
    """Appends events. An event is due for the endpoints of its type; if it has none, it is kept for replay.

    While no endpoint is configured at all, nothing is recorded: presence alone would fill the database.
    """

    def __init__(self, mongo: Mongo, routes: Routes) -> None:
        self._mongo = mongo
        self._routes = routes

    async def append(self, session: Session, records: Sequence[OutboxRecord]) -> None:
        """Record events in the transaction of the change that they describe."""
        if not self._routes.exist:
            return
        docs: list[Document] = []
        span = spans.current_span()
        for record in records:
            doc = {
                "_id": record.id,
                "kind": record.type,
                "lane": record.ordering_key,
                "key": record.key,
                "at": record.at,
                # Stored as text, so that MongoDB never interprets a key that a client chose.
                "data": json_codec.encode(record.data).decode(),
            }
            if span is not None:
                doc["trace"] = span.traceparent
            if slots := self._routes.slots(record.type, record.ordering_key):
                doc["due"] = slots
            else:
                doc["expiresAt"] = record.at + timedelta(seconds=RETENTION_S)
            docs.append(doc)
        if docs:
            await self._mongo.outbox.insert_many(docs, session=session)
