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
    Locked,
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
from .tail import ConversationTail, Key, Send, living, refuse

log = structlog.get_logger(__name__)

LOCKED_S = 0.05
"""How long a batch waits for a locked conversation before it goes on without it. A transaction takes milliseconds,
unless its process has stalled."""
LOCKED_AGAIN_S = 0.02
"""How long the batch waits for the next one."""
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
        """Store sends, announce them and resolve their futures, in the given order per conversation.

        A conversation whose sends cannot be stored at once does not keep the others waiting: its sends go back
        to its queue, and it is `apart` from then on. A lone conversation waits here, until the caller's time
        limit.
        """
        wait_s = None if len(runs) == 1 else LOCKED_S
        attempt = 0
        while True:
            if unknown := [tail for tail, run in runs if run and not tail.suits(run)]:
                await self._position.locate(unknown)
            runs = [(tail, alive) for tail, run in runs if (alive := living(tail, run))]
            docs, sends = self._number(runs)
            if not docs:
                return
            try:
                written, failed = await self._insert(docs, wait_s)
            except UNENCODABLE as error:
                # Nothing was sent to the database. Only the send that cannot be encoded must fail.
                if len(docs) == 1:
                    raise
                log.error("a message cannot be stored", exc_info=error)
                await self._one_by_one(sends)
                return
            for tail, send in sends[:written]:
                self._sent(tail, send)
            if written == len(docs):
                return
            tail, send = sends[written]
            which = duplicate_of(failed) if failed is not None else "_id"
            if which is None:
                log.error("a message was refused by the database", exc_info=failed)
                refuse(send, Internal())
                continue
            if which == "once" and await self._find_earlier([send for _, send in sends[written:]]):
                continue
            if wait_s is not None:
                if failed is None:
                    # Often the stalled process has locked more conversations than this.
                    wait_s = LOCKED_AGAIN_S
                elif which != "once":
                    self._contention.note_lost_race(tail)
                runs = self._set_apart(tail, runs)
            elif which == "once":
                # The index has the earlier message, but a majority does not yet.
                await asyncio.sleep(0.005)
            else:
                # Another node was first. Learn what it wrote, then number the rest again.
                await self._contention.lost_race(tail, attempt)
                attempt += 1

    async def _insert(
        self, docs: list[Document], wait_s: float | None
    ) -> tuple[int, PyMongoError | None]:
        """Returns how many documents were stored, and why the next one was not. None: it is locked.

        `wait_s`: the longest wait for a locked document, or None for no limit.
        """
        try:
            if wait_s is None:
                await self._mongo.log.insert_many(docs, ordered=True)
            else:
                await self._mongo.log_inserts.insert(docs, wait_s)
        except Locked as locked:
            return locked.stored, None
        except BulkWriteError as error:
            if not error.details["writeErrors"]:
                raise
            written: int = error.details["writeErrors"][0]["index"]
            if is_down(error):
                # The documents before the refused one are stored, but a majority has not confirmed them.
                if duplicate_of(error) is None:
                    raise
                written = await self._mongo.log_inserts.stored(docs[:written])
            return written, error
        return len(docs), None

    @staticmethod
    def _set_apart(
        tail: ConversationTail, runs: list[tuple[ConversationTail, list[Send]]]
    ) -> list[tuple[ConversationTail, list[Send]]]:
        """Put the unfinished sends of a conversation back into its queue. Returns the runs of the others."""
        tail.apart = True
        for its_tail, run in runs:
            if its_tail is tail:
                tail.queue.extendleft(reversed([send for send in run if not send.future.done()]))
        return [(other, run) for other, run in runs if other is not tail]

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
