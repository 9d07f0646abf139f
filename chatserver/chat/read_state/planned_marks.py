"""Plans marks: which messages become read by each one, and which gaps in what has been read it closes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import Conflict, NotFound
from ...mongo import Document, Mongo
from ..large_conversations import LargeConversations
from ..memberships import member_id
from ..message import Message, offset_of
from .ranges import Range, ReadSet
from .unread import Unread, read_set

MAX_AHEAD = 1000
"""Ranges that are kept ahead of the mark. Reading that would need more is refused, such as reading every
other message of a long history."""
NEAR = 400
"""The longest part of a gap between ranges that a mark counts to close it, if it cannot be closed."""


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

    def resolve(self, read: Read) -> None:
        # Its caller may have been cancelled.
        if not self.done.done():
            self.done.set_result(read)

    def refuse(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class Read:
    """`last`: the message of the mark; None if it does not exist. `notice`: what was announced; None if nothing
    became read."""

    last: Message | None
    notice: Mapping[str, Any] | None = None


@dataclass(slots=True, eq=False)
class Change:
    """The change that a mark makes in the document of its reader."""

    mark: Mark
    doc: Document
    last: Message
    became_read: list[Range]
    after: ReadSet
    tells: Document
    """The fields of the last receipt, from which nodes restore a notice that they missed: `place`, the offset of the
    message; `count`, if the mark is not of a single message; `own`, if only the reader's sockets receive it."""

    gaps: Sequence[Range] = ()
    """The gaps beside the message that may hold nothing unread."""

    @property
    def must_count(self) -> bool:
        return bool(self.gaps) or not (self.mark.single or "count" in self.tells)


class Planner:
    def __init__(self, mongo: Mongo, unread: Unread, large: LargeConversations) -> None:
        self._mongo = mongo
        self._unread = unread
        self._large = large

    async def plan(self, batch: Mapping[str, Mark]) -> list[Change]:
        """Returns the changes that marks of different participants make. Ends the marks that change nothing, and
        those that are refused."""
        docs, messages, large = await asyncio.gather(
            self._docs(list(batch)),
            self._messages(batch.values()),
            self._large.among(mark.conversation_id for mark in batch.values()),
        )
        planned: list[Change] = []
        for member, mark in batch.items():
            plan = _plan(
                mark,
                docs.get(member),
                messages.get(mark.up_to),
                own=mark.conversation_id in large,
            )
            if isinstance(plan, Change):
                planned.append(plan)
            elif isinstance(plan, Read):
                mark.resolve(plan)
            else:
                mark.refuse(plan)
        await self._look_beside(planned)
        to_count = [change for change in planned if change.must_count]
        counted = await asyncio.gather(
            *[self._count(change) for change in to_count], return_exceptions=True
        )
        failed = dict(zip(to_count, counted, strict=True))
        changes: list[Change] = []
        for change in planned:
            error = failed.get(change) or _too_scattered(change)
            if error is None:
                changes.append(change)
            else:
                change.mark.refuse(error)
        return changes

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

    async def _look_beside(self, changes: Sequence[Change]) -> None:
        """Finds the gaps that a mark may close. If the message next to the mark is unread, its gap stays open.

        In a large group all mark the same message, so they ask for the same one beside it.
        """
        edges: dict[str, set[int]] = {}
        for change in changes:
            change.gaps = change.after.gaps_beside(change.last.seq)
            for gap in change.gaps:
                edges.setdefault(change.mark.conversation_id, set()).add(_edge(gap, change))
        if not edges:
            return
        beside = self._mongo.log.find(
            {
                "$or": [
                    {"conversationId": key, "seq": {"$in": [*seqs]}} for key, seqs in edges.items()
                ]
            },
            {"conversationId": 1, "seq": 1, "senderId": 1, "deletedAt": 1},
            # Otherwise MongoDB tries every index for each of the conversations.
            hint="seq",
        )
        senders = {
            (doc["conversationId"], doc["seq"]): doc["senderId"]
            async for doc in beside
            if "deletedAt" not in doc
        }
        for change in changes:
            if change.gaps and not change.doc.get("hides"):
                own = change.mark.reader_id
                at = change.mark.conversation_id
                change.gaps = [
                    gap for gap in change.gaps if senders.get((at, _edge(gap, change)), own) == own
                ]

    async def _count(self, change: Change) -> None:
        """Counts what became read, and closes gaps that hold only the reader's own, deleted and hidden messages.

        In a lively conversation, messages are read one by one, and every other message is the reader's
        own. Without this, the ranges would never join. Of a long gap, what is beside the range is closed first, so
        that no mark counts it again.
        """
        doc, seq = change.doc, change.last.seq
        if not (change.mark.single or "count" in change.tells):
            change.tells["count"] = await self._unread.up_to(doc, seq)
        for first, last in change.gaps:
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
                change.after = change.after.adding(*near)
                size *= 2


def _plan(
    mark: Mark, doc: Document | None, last: Message | None, *, own: bool
) -> Change | Read | NotFound:
    if doc is None:
        return NotFound()
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
    if not mark.single and became_read == [(last.seq, last.seq)] and not doc.get("hides"):
        # The usual case in a lively group, where everybody reads each message.
        tells["count"] = int(last.sender_id != mark.reader_id and last.deleted_at is None)
    return Change(mark, doc, last, became_read, state.adding(first, last.seq), tells)


def _edge(gap: Range, change: Change) -> int:
    """Returns the number in a gap that is next to what has been read."""
    return gap[gap[1] < change.last.seq]


def _too_scattered(change: Change) -> Conflict | None:
    if len(change.after.ahead) <= MAX_AHEAD:
        return None
    return Conflict("Too much has been read out of order; mark the conversation as read.")


def _inside(gaps: list[Range], first: int) -> list[Range]:
    return [(max(start, first), end) for start, end in gaps if end >= first]
