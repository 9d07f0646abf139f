"""Events that no log entry stands for: of conversations, participants and users.

Changes of messages and reactions are events by themselves: their log entry is their outbox record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from .. import wire
from ..mongo import RETENTION_S, Document, Mongo, Session, new_id


class Outbox:
    """Appends events; `due` marks them for the webhook relay, else they are kept for replay only."""

    def __init__(self, mongo: Mongo, *, due: bool) -> None:
        self._mongo = mongo
        self._due = due

    async def append(
        self,
        session: Session,
        kind: str,
        key: str,
        at: datetime,
        payloads: Sequence[Mapping[str, Any]],
    ) -> None:
        """Record one event of type `kind` per payload, in the transaction of the change.

        Events of one `key` (a conversation, or a user) are delivered in the order of appending.
        """
        docs: list[Document] = []
        for payload in payloads:
            # As text: no key that a client chose means anything to the database.
            doc = {
                "_id": new_id(),
                "kind": kind,
                "key": key,
                "at": at,
                "data": wire.encode(payload).decode(),
            }
            if self._due:
                doc["due"] = at
            else:
                doc["expiresAt"] = at + timedelta(seconds=RETENTION_S)
            docs.append(doc)
        if docs:
            await self._mongo.outbox.insert_many(docs, session=session)
