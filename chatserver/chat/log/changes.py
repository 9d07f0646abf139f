"""Commits changes other than sends: a log entry and what it changed, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from ...clock import now
from ...errors import ChatError, NotFound
from ...mongo import (
    BulkWriteError,
    Document,
    DuplicateKeyError,
    Mongo,
    Session,
    duplicate_of,
    replace_one,
)
from ...observability.spans import ChangeTrace, set_current_span
from ...outbox.event import TYPE_OF_ENTRY
from ..membership import Member, Members, Roster
from ..message import Message, entry_id
from ..outside import Routes
from .contention import Contention
from .entry import Entry, Outcome
from .position import Position
from .tail import ChangeOp, ConversationChangeOp, ConversationTail, living, refuse


class Changes:
    """Commits changes of messages, and of the conversations themselves."""

    def __init__(
        self,
        mongo: Mongo,
        members: Members,
        position: Position,
        contention: Contention,
        announce: Callable[[Entry], None],
        routes: Routes,
    ) -> None:
        self._mongo = mongo
        self._members = members
        self._announce = announce
        self._position = position
        self._contention = contention
        self._routes = routes

    async def commit(self, tail: ConversationTail, ops: list[ChangeOp]) -> None:
        runs = count()
        for attempt in count():
            if not tail.suits(ops):
                await self._position.locate([tail])
            ops = living(tail, ops)
            if not ops:
                return
            try:
                entries, answers = await self._mongo.transaction(
                    partial(self._apply, tail, ops, runs)
                )
            except (DuplicateKeyError, BulkWriteError) as error:
                if duplicate_of(error) is None:
                    raise
                await self._contention.lost_race(tail, attempt)
                continue
            for entry in entries:
                tail.advance(entry.doc)
                self._announce(entry)
            for op, answer in zip(ops, answers, strict=True):
                if isinstance(answer, ChatError):
                    refuse(op, answer)
                elif not op.future.done():
                    op.future.set_result(answer)
            return

    async def _apply(
        self, tail: ConversationTail, ops: list[ChangeOp], runs: Iterator[int], session: Session
    ) -> tuple[list[Entry], list[Outcome | ChatError]]:
        at = now()
        rev, offset = tail.rev, tail.offset
        wanted = {"_id": {"$in": list({op.change.message_id for op in ops})}, "kind": "message"}
        is_repeated = next(runs) > 0
        if is_repeated:
            # The relay recorded a delivery in one of these messages after we read it, and could do so
            # again. Setting `held` locks the messages, so that the relay waits.
            await self._mongo.log.update_many(wanted, {"$set": {"held": True}}, session=session)
        messages = {
            doc["_id"]: Message(doc).with_(held=None)
            async for doc in self._mongo.log.find(wanted, session=session)
        }
        touched: dict[str, Message] = {}
        entries: list[Entry] = []
        answers: list[Outcome | ChatError] = []
        hidden: set[tuple[str, str]] = set()
        roster = Roster()

        async def member(user_id: str) -> Member:
            if user_id not in roster:
                roster[user_id] = await self._members.require(user_id, tail.id, session=session)
            return roster[user_id]

        for op in ops:
            message = messages.get(op.change.message_id)
            if message is None:
                answers.append(NotFound())
                continue
            try:
                applied = await op.change.apply(message, at, member, session)
            except ChatError as refusal:
                answers.append(refusal)
                continue
            if applied is None:
                answers.append(Outcome(message, None))
                continue
            if not applied.for_all:
                # The message itself does not show it, and two devices may hide it at the same time.
                hide = (op.user_id, message.id)
                if hide in hidden or await self._is_hidden(op.user_id, message, session):
                    answers.append(Outcome(message, None))
                    continue
                hidden.add(hide)
            rev += 1
            offset += 1
            after = applied.message.with_(rev=rev)
            if applied.for_all:
                messages[message.id] = touched[message.id] = after
            doc = {
                "_id": entry_id(tail.id, offset),
                "kind": applied.kind,
                "conversationId": tail.id,
                "lastSeq": tail.seq,
                "lastRev": rev,
                "messageId": message.id,
                "userId": op.user_id,
                "at": at,
                **applied.fields,
            }
            self._address(doc, op.trace)
            entries.append(Entry(doc, after, trace=op.trace))
            answers.append(Outcome(after, doc))
        if entries:
            await self._mongo.log.insert_many([entry.doc for entry in entries], session=session)
        if touched:
            await self._mongo.log.bulk_write(
                [replace_one(message.doc) for message in touched.values()], session=session
            )
        if is_repeated:
            await self._mongo.log.update_many(wanted, {"$unset": {"held": ""}}, session=session)
        return entries, answers

    def _address(self, doc: Document, trace: ChangeTrace | None) -> None:
        if trace is not None:
            doc["trace"] = trace.of.traceparent
        event_type = TYPE_OF_ENTRY.get(doc["kind"])
        if event_type and (slots := self._routes.slots(event_type, doc["conversationId"])):
            doc["due"] = slots

    async def _is_hidden(self, user_id: str, message: Message, session: Session) -> bool:
        where = {"conversationId": message.conversation_id, "hiddenSeq": message.seq}
        found = await self._mongo.log.find_one({"hiddenFor": user_id, **where}, session=session)
        return found is not None

    async def change_conversation(self, tail: ConversationTail, op: ConversationChangeOp) -> None:
        """Commit a change of the conversation itself."""
        # Until now the current span, if any, was that of the request which woke the log.
        set_current_span(op.trace.of if op.trace is not None else None)
        for attempt in count():
            if not tail.known:
                await self._position.locate([tail])
            # The transaction checks that the actor participates, as it checks everything else.
            if not living(tail, [op], removed=()):
                return
            try:
                entry = await self._mongo.transaction(
                    partial(self._store_conversation_change, tail, op)
                )
            except ChatError as refusal:
                refuse(op, refusal)
                return
            except DuplicateKeyError:
                await self._contention.lost_race(tail, attempt)
                continue
            if entry is not None:
                tail.advance(entry.doc)
                self._announce(entry)
            if not op.future.done():
                op.future.set_result(entry.offset if entry else None)
            return

    async def _store_conversation_change(
        self, tail: ConversationTail, op: ConversationChangeOp, session: Session
    ) -> Entry | None:
        offset = tail.offset + 1
        change = await op.transaction(session, offset, tail.seq)
        if change is None:
            return None
        doc = {
            "_id": entry_id(tail.id, offset),
            "kind": change.kind,
            "conversationId": tail.id,
            "lastSeq": tail.seq,
            "lastRev": tail.rev,
            "userId": op.user_id,
            "at": change.at,
            **change.fields,
        }
        self._address(doc, op.trace)
        await self._mongo.log.insert_one(doc, session=session)
        return Entry(doc, None, change.view, change.own_views, op.trace)
