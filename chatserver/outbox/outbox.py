"""Records the events that are not log entries: those of conversations, participants and users.

Changes of messages and reactions, and the deletion of a conversation, need no record here: their log
entry is the outbox record.

The records of one ordering key (a conversation or a user) are sent in the order of their ids, across both
collections. A conversation's record sorts right after the log entry that was the last one when the record
was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .. import json_codec
from ..mongo import RETENTION_S, Document, Mongo, Session
from ..observability import spans
from .endpoints import Routes


@dataclass(frozen=True, slots=True)
class OutboxRecord:
    id: str
    type: str
    ordering_key: str
    key: str
    """The id of the conversation or the user."""
    at: datetime
    data: Mapping[str, Any]

    @classmethod
    def of_conversation(
        cls,
        event_type: str,
        conversation_id: str,
        position: tuple[int, int],
        at: datetime,
        data: Mapping[str, Any],
    ) -> OutboxRecord:
        """`position`: the offset of the change in the log, and a number that grows with each event.

        The transaction of the change reads both, so of two events the later one has the higher position.
        """
        offset, number = position
        record_id = f"{conversation_id}-{offset:08x}.{number:08x}"
        return cls(record_id, event_type, conversation_id, conversation_id, at, data)

    @classmethod
    def of_user(
        cls, event_type: str, user_id: str, number: int, at: datetime, data: Mapping[str, Any]
    ) -> OutboxRecord:
        """`number` grows with each event of this user."""
        # A user id may contain any character; an ordering key becomes part of ids and headers.
        ordering_key = hashlib.blake2b(user_id.encode(), digest_size=12).hexdigest()
        return cls(f"{ordering_key}-{number:08x}", event_type, ordering_key, user_id, at, data)


class Outbox:
    """Appends events. An event is due for the endpoints of its type; without any, it is kept for replay."""

    def __init__(self, mongo: Mongo, routes: Routes) -> None:
        self._mongo = mongo
        self._routes = routes

    async def append(self, session: Session, records: Sequence[OutboxRecord]) -> None:
        """Record events in the transaction of the change that they describe."""
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
