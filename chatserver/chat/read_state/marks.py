"""Marks messages as read. Marks that arrive together share one transaction, as sends share an insert.

In a large group everybody reads a new message in the same second. One by one, their marks would keep the
database and the event loop from everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ...errors import Conflict
from ...mongo import Document, FairQueue, Mongo, Session, blocks, is_down
from ...observability.metrics import Families
from ..large_conversations import LargeConversations
from ..outside import ConversationRooms
from .merging import Merging
from .planned_marks import Change, Mark, Planner, Read
from .read_events import announcement
from .unread import Unread

BATCH = 64
"""Marks in one transaction. A batch in a room of a thousand sockets keeps the event loop busy for some 50 ms."""
WRITERS = 2
"""Concurrent transactions: a batch that must count much does not delay all others."""
ATTEMPTS = 8


class ReadMarks:
    def __init__(
        self,
        mongo: Mongo,
        unread: Unread,
        merging: Merging,
        rooms: ConversationRooms,
        large: LargeConversations,
    ) -> None:
        self._mongo = mongo
        self._unread = unread
        self._merging = merging
        self._rooms = rooms
        self._planner = Planner(mongo, unread, large)
        self._waiting = FairQueue[Mark]()
        self._writing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, metrics: Families) -> None:
        metrics.memory("read marks that wait", lambda: len(self._waiting), None)
        metrics.memory("batches of read marks", lambda: len(self._tasks), WRITERS)

    def mark(
        self, reader_id: str, conversation_id: str, message_id: str | None, *, single: bool
    ) -> asyncio.Future[Read]:
        """Queue a mark. The future ends when the mark is stored and announced, or changes nothing.

        Conversations take turns. Raises NotFound if the reader is no participant, and Conflict.
        """
        done: asyncio.Future[Read] = asyncio.get_running_loop().create_future()
        self._put(Mark(reader_id, conversation_id, message_id, single, done))
        return done

    def _put(self, mark: Mark) -> None:
        self._waiting.put(mark.conversation_id, mark)
        if self._writing < WRITERS:
            self._writing += 1
            task = asyncio.get_running_loop().create_task(self._write())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                try:
                    await self._store(batch)
                except Exception as error:  # whatever it is, its callers receive it
                    refused = [*batch.values()]
                    while is_down(error) and self._waiting:  # these would wait in vain
                        refused.append(self._waiting.take())
                    for mark in refused:
                        mark.refuse(error)
        finally:
            self._writing -= 1

    def _next_batch(self) -> dict[str, Mark]:
        """Returns waiting marks by participant. A participant's second mark builds on the first, so it waits."""
        batch: dict[str, Mark] = {}
        second: list[Mark] = []
        while self._waiting and len(batch) < BATCH:
            mark = self._waiting.take()
            if batch.setdefault(mark.member, mark) is not mark:
                second.append(mark)
        for mark in second:
            self._waiting.put(mark.conversation_id, mark)
        return batch

    async def _store(self, batch: Mapping[str, Mark]) -> None:
        changes = await self._planner.plan(batch)
        if not changes:
            return
        stored = await self._mongo.transaction(
            partial(self._commit, changes), if_unsure=partial(self._announce_stored, changes)
        )
        for change in changes:
            mark = change.mark
            if (receipt := stored.get(mark.member)) is not None:
                mark.resolve(Read(change.last, self._announce(receipt)))
            elif mark.attempts < ATTEMPTS:
                # Another device of the same user was quicker: read the state again.
                mark.attempts += 1
                self._put(mark)
            else:
                mark.refuse(
                    Conflict("Too many devices are marking this conversation as read; try again.")
                )
        for change in changes:
            if change.mark.member in stored:
                await self._merging.after_mark(change.doc, change.after.mark)

    async def _commit(self, changes: Sequence[Change], session: Session) -> dict[str, Document]:
        """Store the new read states, and a receipt for each range that became read.

        Returns the receipt with the fields `tells` of each participant. A participant whose state another
        device has changed first is left out.
        """
        # Times are the database's: nodes search for recent receipts by their time.
        cursor = await self._mongo.participants.aggregate(
            [
                {"$match": {"_id": {"$in": [change.doc["_id"] for change in changes]}}},
                {"$project": {"readVersion": 1, "hides": 1, "unread": 1, "now": "$$NOW"}},
            ],
            session=session,
        )
        found = {doc["_id"]: doc async for doc in cursor}
        updates: dict[str, Document] = {}
        receipts: list[Document] = []
        stored: dict[str, Document] = {}
        for change in changes:
            member, version = change.doc["_id"], change.doc.get("readVersion")
            doc = found.get(member)
            if doc is None or doc.get("readVersion") != version:
                continue
            after = change.after
            ahead = [list(span) for span in after.ahead]
            unread = await self._unread.after_mark(
                change.doc | doc, change.became_read, after, session
            )
            updates[member] = {
                "$set": {"lastReadSeq": after.mark, "ahead": ahead, "readAt": doc["now"], **unread},
                "$inc": {"readVersion": 1},
            }
            receipts += [
                {
                    "conversationId": change.doc["conversationId"],
                    "userId": change.doc["userId"],
                    "from": first,
                    "to": last,
                    "blocks": blocks(first, last),
                    "at": doc["now"],
                }
                for first, last in change.became_read
            ]
            receipts[-1] |= change.tells
            stored[member] = receipts[-1]
        if updates:
            await self._mongo.update_each("participants", updates, session=session)
            await self._mongo.receipts.insert_many(receipts, session=session)
        return stored

    async def _announce_stored(self, changes: Sequence[Change]) -> None:
        """Announce those of the changes that were stored although the transaction had no answer."""
        for change in changes:
            first, last = change.became_read[-1]
            receipt = await self._mongo.receipts.find_one(
                {
                    "conversationId": change.doc["conversationId"],
                    "userId": change.doc["userId"],
                    "from": first,
                    "to": last,
                    "place": {"$exists": True},
                }
            )
            if receipt is not None:
                self._announce(receipt)

    def _announce(self, receipt: Document) -> Mapping[str, Any]:
        event, payload = announcement(receipt)
        notice = str(receipt["_id"])
        if "own" in receipt:
            self._rooms.emit_to_user(receipt["userId"], event, payload, notice=notice)
        else:
            self._rooms.emit(receipt["conversationId"], event, payload, notice=notice)
        return payload
