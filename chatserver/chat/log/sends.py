"""Commits sends: one ordered insert stores many of them, in many conversations."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import structlog

from ...clock import now
from ...errors import Internal, NotFound, Unavailable
from ...mongo import (
    UNENCODABLE,
    BulkWriteError,
    DatabaseUnavailable,
    Document,
    Mongo,
    PyMongoError,
    duplicate_of,
    is_down,
)
from ...observability.metrics import Families
from ..message import Message, entry_id
from ..outside import Routes
from .contention import Contention
from .entry import Entry, Outcome
from .position import Position
from .tail import ATTEMPTS, ConversationTail, Key, Send, living, refuse

log = structlog.get_logger(__name__)

REMEMBERED = 20_000
"""Recent clientMessageIds that are remembered, so that a repeat does not delay its batch."""


class Sends:
    """Commits sends, and marks them as due for the webhook endpoints that want them."""

    def __init__(
        self,
        mongo: Mongo,
        position: Position,
        contention: Contention,
        announce: Callable[[Entry], None],
        routes: Routes,
    ) -> None:
        self._mongo = mongo
        self._announce = announce
        self._position = position
        self._contention = contention
        self._routes = routes
        self._remembered: OrderedDict[Key, str] = OrderedDict()

    def watch(self, metrics: Families) -> None:
        metrics.memory("ids of clients' messages", lambda: len(self._remembered), REMEMBERED)

    def remembered(self, key: Key) -> str | None:
        """Returns the id of the message with this key, if the key is recent."""
        return self._remembered.get(key)

    async def commit(self, runs: list[tuple[ConversationTail, list[Send]]]) -> None:
        """Store sends, announce them and resolve their futures, in the given order per conversation."""
        attempt = 0
        while attempt < ATTEMPTS:
            if unknown := [tail for tail, run in runs if run and not tail.suits(run)]:
                await self._position.locate(unknown)
            runs = [(tail, living(tail, run)) for tail, run in runs]
            docs, sends = self._number(runs)
            if not docs:
                return
            failed: PyMongoError | None = None
            written = len(docs)
            try:
                await self._mongo.log.insert_many(docs, ordered=True)
            except BulkWriteError as error:
                if is_down(error):
                    raise
                failed = error
                written = error.details["writeErrors"][0]["index"]
            except UNENCODABLE as error:
                # Nothing was sent to the database. Only the send that cannot be encoded must fail.
                if len(docs) == 1:
                    raise
                log.error("a message cannot be stored", exc_info=error)
                await self._one_by_one(sends)
                return
            for tail, send in sends[:written]:
                self._sent(tail, send)
            if failed is None:
                return
            tail, send = sends[written]
            which = duplicate_of(failed)
            if which is None:
                log.error("a message was refused by the database", exc_info=failed)
                refuse(send, Internal())
            elif which == "once":
                if not await self._find_earlier([send for _, send in sends[written:]]):
                    # The index has the earlier message, but a majority does not yet. A later attempt
                    # finds it.
                    await asyncio.sleep(0.005)
                    attempt += 1
            else:
                # Another node was first. Learn what it wrote, then number the rest again.
                await self._contention.lost_race(tail, attempt)
                living(tail, [send for its_tail, send in sends[written:] if its_tail is tail])
                attempt += 1
        raise Unavailable("This conversation is too busy.")

    async def _one_by_one(self, sends: list[tuple[ConversationTail, Send]]) -> None:
        for tail, send in sends:
            try:
                await self.commit([(tail, [send])])
            except UNENCODABLE:
                refuse(send, Internal())

    def _number(
        self, runs: list[tuple[ConversationTail, list[Send]]]
    ) -> tuple[list[Document], list[tuple[ConversationTail, Send]]]:
        at = now()
        docs: list[Document] = []
        sends: list[tuple[ConversationTail, Send]] = []
        for tail, run in runs:
            seq, rev, offset = tail.seq, tail.rev, tail.offset
            if tail.due is None:
                tail.due = self._routes.slots("message.created", tail.id)
            for send in run:
                seq += 1
                rev += 1
                offset += 1
                # `_id` goes first, where MongoDB puts it anyway. An earlier attempt left another id.
                doc = {"_id": "", **send.doc}
                doc["_id"] = entry_id(tail.id, offset)
                doc["kind"] = "message"
                doc["seq"] = doc["lastSeq"] = seq
                doc["rev"] = doc["lastRev"] = rev
                doc["at"] = doc["updatedAt"] = at
                if tail.due:
                    doc["due"] = tail.due
                if send.trace is not None:
                    doc["trace"] = send.trace.of.traceparent
                send.doc = doc
                docs.append(doc)
                sends.append((tail, send))
        return docs, sends

    def _sent(self, tail: ConversationTail, send: Send) -> None:
        message = Message(send.doc)
        if key := send.key:
            self._remember(key, message.id)
        tail.advance(send.doc)
        self._announce(Entry(send.doc, message, trace=send.trace))
        if not send.future.done():
            send.future.set_result(Outcome(message, send.doc))

    def _remember(self, key: Key, message_id: str) -> None:
        self._remembered[key] = message_id
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    async def _find_earlier(self, sends: list[Send]) -> bool:
        """Resolve the sends that repeat a stored message. Returns True if there were any.

        One query serves the whole batch: after a restart, clients may repeat everything that they sent.
        """
        repeats = {key: send for send in sends if (key := send.key)}
        of_sender: dict[tuple[str, str], list[str]] = {}
        for conversation_id, sender_id, once in repeats:
            of_sender.setdefault((conversation_id, sender_id), []).append(once)
        found = [
            doc
            async for doc in self._mongo.log.find(
                {
                    "$or": [
                        {
                            "conversationId": conversation_id,
                            "senderId": sender_id,
                            "clientMessageId": {"$in": ids},
                        }
                        for (conversation_id, sender_id), ids in of_sender.items()
                    ]
                }
            )
        ]
        for doc in found:
            key = (doc["conversationId"], doc["senderId"], doc["clientMessageId"])
            self._remember(key, doc["_id"])
            if not repeats[key].future.done():
                repeats[key].future.set_result(Outcome(Message(doc), None))
        return bool(found)

    async def resolve(self, message_id: str, future: asyncio.Future[Outcome]) -> None:
        """Resolve a repeated send to the message that it repeats, as that message is now."""
        try:
            async with self._mongo.deadline():
                doc = await self._mongo.log.find_one({"_id": message_id})
        except PyMongoError as error:
            if not future.done():
                unavailable = isinstance(error, DatabaseUnavailable)
                future.set_exception(Unavailable() if unavailable else Internal())
            return
        if future.done():
            return
        if doc is None:
            future.set_exception(NotFound())
        else:
            future.set_result(Outcome(Message(doc), None))
