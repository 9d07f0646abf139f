"""Marks messages as read. Marks that arrive together share one transaction, as sends share an insert.

In a large group everybody reads a new message in the same second. One by one, their marks would keep the
database and the event loop from everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import Conflict, NotFound
from ...mongo import Document, FairQueue, Mongo, Session, blocks, is_down
from ...observability.metrics import Families
from ..large_conversations import LargeConversations
from ..memberships import member_id
from ..message import Message, offset_of
from ..outside import ConversationRooms
from .merging import Merging
from .ranges import Range, ReadSet
from .read_events import announcement
from .unread import Unread, read_set

BATCH = 64
"""Marks in one transaction. A batch in a room of a thousand sockets keeps the event loop busy for some 50 ms."""
WRITERS = 2
"""Concurrent transactions: a batch that must count much does not delay all others."""
MAX_AHEAD = 1000
"""Ranges that are kept ahead of the mark. Reading that would need more is refused, such as reading every
other message of a long history."""
NEAR = 400
"""The longest part of a gap between ranges that a mark counts to close it, if it cannot be closed."""
ATTEMPTS = 8


@dataclass(slots=True, eq=False)
class Mark:
    """A request of one reader. `message_id`: the last message that was read; None: the newest one.

    `single`: only this message was read, not everything up to it.
    """

    reader_id: str
    conversation_id: str
    message_id: str | None
    single: bool
    done: asyncio.Future[Read]
    attempts: int = 0

    @property
    def member(self) -> str:
        return member_id(self.conversation_id, self.reader_id)

    @property
    def up_to(self) -> tuple[str, str | None]:
        return self.conversation_id, self.message_id


@dataclass(frozen=True, slots=True)
class Read:
    """`last`: the message of the mark; None if it does not exist. `notice`: what was announced; None if nothing
    became read."""

    last: Message | None
    notice: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Change:
    """The change that a mark makes in the document of its reader."""

    mark: Mark
    doc: Document
    last: Message
    after: ReadSet
    became_read: list[Range]
    tells: Document
    """The fields of the last receipt, from which nodes restore a notice that they missed: `place`, the offset of the
    message; `count`, if the mark is not of a single message; `own`, if only the reader's sockets receive it."""


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
        self._large = large
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
                        _refuse(mark, error)
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
        docs, messages, large = await asyncio.gather(
            self._docs(list(batch)),
            self._messages(batch.values()),
            self._large.among(mark.conversation_id for mark in batch.values()),
        )
        plans = await asyncio.gather(
            *(
                self._plan(
                    mark,
                    docs.get(member),
                    messages.get(mark.up_to),
                    own=mark.conversation_id in large,
                )
                for member, mark in batch.items()
            ),
            return_exceptions=True,
        )
        changes: list[_Change] = []
        for mark, plan in zip(batch.values(), plans, strict=True):
            if isinstance(plan, _Change):
                changes.append(plan)
            elif isinstance(plan, Read):
                _resolve(mark, plan)
            else:
                _refuse(mark, plan)
        if not changes:
            return
        stored = await self._mongo.transaction(
            partial(self._commit, changes), if_unsure=partial(self._announce_stored, changes)
        )
        for change in changes:
            mark = change.mark
            if (receipt := stored.get(mark.member)) is not None:
                _resolve(mark, Read(change.last, self._announce(receipt)))
            elif mark.attempts < ATTEMPTS:
                # Another device of the same user was quicker: read the state again.
                mark.attempts += 1
                self._put(mark)
            else:
                _refuse(
                    mark,
                    Conflict("Too many devices are marking this conversation as read; try again."),
                )
        for change in changes:
            if change.mark.member in stored:
                await self._merging.after_mark(change.doc, change.after.mark)

    async def _docs(self, members: list[str]) -> dict[str, Document]:
        found = self._mongo.participants.find({"_id": {"$in": members}})
        return {doc["_id"]: doc async for doc in found}

    async def _messages(self, marks: Iterable[Mark]) -> dict[tuple[str, str | None], Message]:
        """Returns the message of each mark, by `up_to`, as far as they exist."""
        ids = {mark.message_id for mark in marks if mark.message_id is not None}
        newest = {mark.conversation_id for mark in marks if mark.message_id is None}
        found: dict[tuple[str, str | None], Message] = {}
        if ids:
            named = self._mongo.log.find({"_id": {"$in": list(ids)}, "kind": "message"})
            found = {(doc["conversationId"], doc["_id"]): Message(doc) async for doc in named}
        for conversation_id in newest:
            doc = await self._mongo.log.find_one(
                {"conversationId": conversation_id, "seq": {"$gte": 1}}, sort=[("seq", -1)]
            )
            if doc is not None:
                found[conversation_id, None] = Message(doc)
        return found

    async def _plan(
        self, mark: Mark, doc: Document | None, last: Message | None, *, own: bool
    ) -> _Change | Read:
        if doc is None:
            raise NotFound()
        if last is None:
            return Read(None)
        if mark.single and last.sender_id == mark.reader_id:
            return Read(last)
        state, first = read_set(doc), last.seq if mark.single else 1
        became_read = _inside(state.missing(last.seq), first)
        if not became_read:
            return Read(last)
        tells: Document = {"place": offset_of(last.id)}
        if own:
            tells["own"] = True
        if not mark.single:
            tells["count"] = await self._count(doc, became_read, last)
        after = await self._collapsed(doc, state.adding(first, last.seq), last.seq)
        return _Change(mark, doc, last, after, became_read, tells)

    async def _count(self, doc: Document, became_read: list[Range], last: Message) -> int:
        if became_read == [(last.seq, last.seq)] and not doc.get("hides"):
            # The usual case in a lively group, where everybody reads each message.
            return int(last.sender_id != doc["userId"] and last.deleted_at is None)
        return await self._unread.up_to(doc, last.seq)

    async def _collapsed(self, doc: Document, state: ReadSet, seq: int) -> ReadSet:
        """Close the gaps beside `seq` that hold only the reader's own messages and deleted ones.

        In a lively conversation, messages are read one by one, and every other message is the reader's
        own. Without this, the ranges would never join. Of a long gap, what is beside the range is closed first, so
        that no mark counts it again.
        """
        for first, last in state.gaps_beside(seq):
            size = NEAR
            while first <= last:
                if last < seq:
                    near = max(first, last - size + 1), last
                    last = near[0] - 1
                else:
                    near = first, min(last, first + size - 1)
                    first = near[1] + 1
                if await self._unread.within(doc, [near]):
                    break
                state = state.adding(*near)
                size *= 2
        if len(state.ahead) > MAX_AHEAD:
            raise Conflict("Too much has been read out of order; mark the conversation as read.")
        return state

    async def _commit(self, changes: Sequence[_Change], session: Session) -> dict[str, Document]:
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

    async def _announce_stored(self, changes: Sequence[_Change]) -> None:
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


def _resolve(mark: Mark, read: Read) -> None:
    # Its caller may have been cancelled.
    if not mark.done.done():
        mark.done.set_result(read)


def _refuse(mark: Mark, error: BaseException) -> None:
    if not mark.done.done():
        mark.done.set_exception(error)


def _inside(gaps: list[Range], first: int) -> list[Range]:
    return [(max(start, first), end) for start, end in gaps if end >= first]
