"""Committing all that is not a send: an entry beside the message, in one transaction with it."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial

from ...clock import now
from ...errors import ChatError, NotFound, Unavailable
from ...mongo import (
    BulkWriteError,
    Document,
    DuplicateKeyError,
    Mongo,
    Session,
    duplicate_of,
    replace_one,
)
from ...outbox.endpoints import Routes
from ...outbox.event import TYPE_OF_ENTRY
from ..message import Message, entry_id
from .entry import Entry, Outcome
from .position import Position
from .tail import ATTEMPTS, ENDED, ChangeOp, End, Tail, living, refuse


class Changes:
    """Commits changes of messages, and the end of a conversation."""

    def __init__(self, mongo: Mongo, position: Position, routes: Routes) -> None:
        self._mongo = mongo
        self._position = position
        self._routes = routes

    async def commit(self, tail: Tail, ops: list[ChangeOp]) -> None:
        for attempt in range(ATTEMPTS):
            if not tail.known:
                await self._position.locate([tail])
            ops = living(tail, ops)
            if not ops:
                return
            try:
                entries, answers = await self._mongo.transaction(partial(self._apply, tail, ops))
            except (DuplicateKeyError, BulkWriteError) as error:
                if duplicate_of(error) is None:
                    raise
                await self._position.catch_up(tail)
                if attempt:
                    await asyncio.sleep(random.random() * 0.001 * 2 ** min(attempt, 3))
                continue
            for entry in entries:
                tail.rev = entry.rev
                tail.seen_at = time.monotonic()
                self._position.tell(entry)
            for op, answer in zip(ops, answers, strict=True):
                if isinstance(answer, ChatError):
                    refuse(op, answer)
                elif not op.future.done():
                    op.future.set_result(answer)
            return
        raise Unavailable("This conversation is too busy.")

    async def _apply(
        self, tail: Tail, ops: list[ChangeOp], session: Session
    ) -> tuple[list[Entry], list[Outcome | ChatError]]:
        at = now()
        rev = tail.rev
        wanted = list({op.change.message_id for op in ops})
        messages = {
            doc["_id"]: Message(doc)
            async for doc in self._mongo.log.find(
                {"_id": {"$in": wanted}, "kind": "message"}, session=session
            )
        }
        touched: dict[str, Message] = {}
        entries: list[Entry] = []
        answers: list[Outcome | ChatError] = []
        hidden: set[tuple[str, str]] = set()
        for op in ops:
            message = messages.get(op.change.message_id)
            if message is None:
                answers.append(NotFound())
                continue
            try:
                applied = op.change.apply(message, at)
            except ChatError as refusal:
                answers.append(refusal)
                continue
            if applied is None:
                answers.append(Outcome(message, None))
                continue
            if not applied.for_all:
                # The message does not tell: two devices may hide it at the same moment.
                one = (op.actor_id, message.id)
                if one in hidden or await self._is_hidden(op.actor_id, message, session):
                    answers.append(Outcome(message, None))
                    continue
                hidden.add(one)
            rev += 1
            after = applied.message.with_(rev=rev)
            if applied.for_all:
                messages[message.id] = touched[message.id] = after
            doc = {
                "_id": entry_id(tail.id, rev),
                "kind": applied.kind,
                "conversationId": tail.id,
                "lastSeq": tail.seq,
                "messageId": message.id,
                "userId": op.actor_id,
                "at": at,
                **applied.keeps,
            }
            self._address(doc)
            entries.append(Entry(doc, after))
            answers.append(Outcome(after, doc))
        if entries:
            await self._mongo.log.insert_many([entry.doc for entry in entries], session=session)
        if touched:
            await self._mongo.log.bulk_write(
                [replace_one(one.doc) for one in touched.values()], session=session
            )
        return entries, answers

    def _address(self, doc: Document) -> None:
        event_type = TYPE_OF_ENTRY.get(doc["kind"])
        if event_type and (slots := self._routes.slots(event_type, doc["conversationId"])):
            doc["due"] = slots

    async def _is_hidden(self, user_id: str, message: Message, session: Session) -> bool:
        where = {"conversationId": message.conversation_id, "hiddenSeq": message.seq}
        found = await self._mongo.log.find_one({"hiddenFor": user_id, **where}, session=session)
        return found is not None

    async def end(self, tail: Tail, op: End) -> None:
        for _ in range(ATTEMPTS):
            if not tail.known:
                await self._position.locate([tail])
            if not living(tail, [op]):
                return

            async def body(session: Session) -> None:
                doc = {
                    "_id": entry_id(tail.id, tail.rev + 1),
                    "kind": "end",
                    "conversationId": tail.id,
                    "lastSeq": tail.seq,
                    "userId": op.actor_id,
                    "at": now(),
                }
                self._address(doc)
                await self._mongo.log.insert_one(doc, session=session)
                await op.also(session)

            try:
                await self._mongo.transaction(body)
            except DuplicateKeyError:
                await self._position.catch_up(tail)
                continue
            tail.rev = ENDED
            if not op.future.done():
                op.future.set_result(None)
            return
        raise Unavailable("This conversation is too busy.")
