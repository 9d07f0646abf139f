"""The log: every change of a conversation, durable, once, in order.

One entry per change: a send, an edit, a deletion, a reaction. The entry's id is
(conversation, rev), so the unique index on ids is the compare-and-set by which all nodes agree on
the order; entries are never removed from a living conversation, so no rev is ever given twice.
The entry of a send is the message itself, kept up to date: sends need no transaction, only one
ordered insert for many of them. Every other change is an entry beside the message and goes into one
transaction with the message's new state. An entry is also the outbox record of its change.

Promises. A future that resolves: the change is journaled by a majority. `seq` and `rev` of a
conversation have no gaps but for revs spent on `fence` entries. Changes are announced after the
commit, in rev order, each once. A change that fails leaves nothing behind, except with Unavailable:
then it may have been stored, and a repeat with the same clientMessageId finds out.

Group commit: a writer that is free commits at once what there is; what comes meanwhile is the next
batch. A conversation has one batch under way.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import structlog

from ..clock import now
from ..errors import ChatError, Internal, NotFound, Unavailable
from ..mongo import (
    UNENCODABLE,
    BulkWriteError,
    Document,
    DuplicateKeyError,
    Mongo,
    PyMongoError,
    Session,
    deadline,
    duplicate_of,
    is_down,
    replace_one,
)
from .message import Message, conversation_of, entry_id, rev_of

log = structlog.get_logger(__name__)

BATCH = 128
"""Sends in one insert: past 64 the price of a message falls little and the wait grows."""
RUN = 64
"""Changes of one conversation in one batch, so that a busy one leaves room for others."""
WRITERS = 3
"""Inserts under way at once: enough to keep the journal busy while the next batch forms."""
QUEUE = 2000
"""Changes waiting in one conversation before further ones are refused."""
ATTEMPTS = 12
"""Tries of a batch whose revs other nodes took first."""
POSITION_AGE_S = 600.0
"""A conversation's position is read again when this old, however busy the conversation."""
REMEMBERED = 20_000
"""Recent clientMessageIds, so that a repeat costs its batch nothing."""
TAILS = 20_000
"""Conversations whose position is remembered while nothing happens in them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed change: the log entry, and the message as it is after it."""

    doc: Document
    message: Message

    @property
    def rev(self) -> int:
        return rev_of(self.doc["_id"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: `entry` is None when there was nothing to change."""

    message: Message
    entry: Document | None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a change makes of a message, and what the log keeps of the change."""

    message: Message
    kind: str
    keeps: Mapping[str, Any]
    for_all: bool = True
    """False: the message itself stays as it is (it was hidden from one user)."""


class Change(Protocol):
    """A change of one message."""

    @property
    def message_id(self) -> str: ...

    def apply(self, message: Message, at: datetime) -> Applied | None:
        """The change applied, or None when it changes nothing. Raises ChatError to refuse.

        It may run several times, and must depend on nothing but its arguments.
        """


class _Send:
    __slots__ = ("doc", "future")

    def __init__(self, doc: Document, future: asyncio.Future[Outcome]) -> None:
        self.doc = doc
        self.future = future

    @property
    def key(self) -> tuple[str, str, str] | None:
        once = self.doc.get("clientMessageId")
        return once and (self.doc["conversationId"], self.doc["senderId"], once)


class _Change:
    __slots__ = ("actor_id", "change", "future")

    def __init__(self, actor_id: str, change: Change, future: asyncio.Future[Outcome]) -> None:
        self.actor_id = actor_id
        self.change = change
        self.future = future


class _End:
    """The last entry of a conversation; `also` is what goes with it in the same transaction."""

    __slots__ = ("actor_id", "also", "future")

    def __init__(
        self,
        actor_id: str,
        also: Callable[[Session], Awaitable[None]],
        future: asyncio.Future[None],
    ) -> None:
        self.actor_id = actor_id
        self.also = also
        self.future = future


_Op = _Send | _Change | _End


class _Tail:
    """The end of one conversation's log, as this node knows it."""

    __slots__ = ("busy", "id", "queue", "ready", "rev", "seen_at", "seq", "unsure")

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.queue: deque[_Op] = deque()
        self.seq = -1
        self.rev = -1
        self.seen_at = 0.0
        self.busy = False
        self.ready = False
        self.unsure = False
        """A write ended without an answer: it must be found out before the next one."""

    @property
    def known(self) -> bool:
        return (
            self.rev >= 0 and not self.unsure and time.monotonic() - self.seen_at < POSITION_AGE_S
        )


class Log:
    """Appends changes and announces them.

    `announce` is called once per entry, in rev order per conversation, right after the commit.
    With `due`, entries are marked for the webhook relay.
    """

    def __init__(self, mongo: Mongo, announce: Callable[[Entry], None], *, due: bool) -> None:
        self._mongo = mongo
        self._announce = announce
        # Kept: on Python 3.11 each get_running_loop() is a system call.
        self._loop = asyncio.get_running_loop()
        self._due = due
        self._tails: OrderedDict[str, _Tail] = OrderedDict()
        self._ready: deque[_Tail] = deque()
        self._writers = 0
        self._scheduled = False
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: dict[tuple[str, str, str], asyncio.Future[Outcome]] = {}
        self._remembered: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    # --- the ways in ----------------------------------------------------------------------------

    def append(self, doc: Document) -> asyncio.Future[Outcome]:
        """Take a new message (its document without id, seq, rev and times) into the order, now.

        Calls of one conversation keep their order. A repeated clientMessageId resolves to the
        message that exists, with `entry` None.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()
        send = _Send(doc, future)
        if key := send.key:
            if earlier := self._pending.get(key):
                self._spawn(self._repeat_of(earlier, future))
                return future
            if message_id := self._remembered.get(key):
                self._spawn(self._known(message_id, future))
                return future
            self._pending[key] = future
            future.add_done_callback(lambda _: self._pending.pop(key, None))
        self._enqueue(doc["conversationId"], send)
        return future

    def change(self, actor_id: str, change: Change) -> asyncio.Future[Outcome]:
        """Take a change of a message into the order of its conversation."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._enqueue(conversation_of(change.message_id), _Change(actor_id, change, future))
        return future

    def end(
        self, conversation_id: str, actor_id: str, also: Callable[[Session], Awaitable[None]]
    ) -> asyncio.Future[None]:
        """Write the last entry of a conversation, in one transaction with `also`.

        Whatever comes later, on any node, is refused with NotFound.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._enqueue(conversation_id, _End(actor_id, also, future))
        return future

    async def position(self, conversation_id: str) -> tuple[int, int]:
        """(lastSeq, lastRev) as the database has them."""
        doc = await self._last_entry(conversation_id)
        return (doc["lastSeq"], rev_of(doc["_id"])) if doc else (0, 0)

    def watch(self, gauge: Callable[[str, str, Callable[[], float]], None]) -> None:
        """Show how busy the log is: name, meaning and reading of each gauge."""
        gauge("chat_log_batches", "Batches of sends being committed.", lambda: self._writers)
        gauge("chat_log_ready", "Conversations that wait for a writer.", lambda: len(self._ready))

    async def close(self) -> None:
        """Finish what was taken in, then refuse the rest."""
        self._closing = True
        while self._tasks or self._ready:
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    # --- the queue ------------------------------------------------------------------------------

    def _enqueue(self, conversation_id: str, op: _Op) -> None:
        tail = self._tails.get(conversation_id)
        if tail is None:
            tail = self._tails[conversation_id] = _Tail(conversation_id)
            self._forget_idle()
        if self._closing or len(tail.queue) >= QUEUE:
            op.future.set_exception(Unavailable())
            return
        tail.queue.append(op)
        self._wake(tail)

    def _forget_idle(self) -> None:
        while len(self._tails) > TAILS:
            oldest = next(iter(self._tails.values()))
            self._tails.move_to_end(oldest.id)
            if oldest.busy or oldest.queue or oldest.unsure:
                return
            del self._tails[oldest.id]

    def _wake(self, tail: _Tail) -> None:
        if tail.queue and not tail.busy and not tail.ready:
            tail.ready = True
            self._ready.append(tail)
        if self._ready and not self._scheduled:
            # Not at once: what else arrives in this turn of the loop joins the same batch.
            self._scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._scheduled = False
        while self._ready and self._writers < WRITERS:
            runs: list[tuple[_Tail, list[_Send]]] = []
            room = BATCH
            while self._ready and room > 0:
                tail = self._ready.popleft()
                tail.ready = False
                tail.busy = True
                self._tails.move_to_end(tail.id)
                if isinstance(tail.queue[0], _Send):
                    run = _take(tail.queue, _Send, min(RUN, room))
                    runs.append((tail, run))
                    room -= len(run)
                elif isinstance(tail.queue[0], _Change):
                    changes = _take(tail.queue, _Change, RUN)
                    self._spawn(self._guard([tail], changes, self._commit_changes(tail, changes)))
                else:
                    (end,) = _take(tail.queue, _End, 1)
                    self._spawn(self._guard([tail], [end], self._commit_end(tail, end)))
            if runs:
                self._writers += 1
                ops = [send for _, run in runs for send in run]
                self._spawn(
                    self._write(self._guard([t for t, _ in runs], ops, self._commit_sends(runs)))
                )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._writers -= 1
            if self._ready:
                self._start()

    async def _guard(
        self, tails: list[_Tail], ops: list[Any], commit: Coroutine[Any, Any, None]
    ) -> None:
        """Run one commit; whatever happens, every future is answered and the tails go on."""
        try:
            async with deadline():
                await commit
        except Exception as error:
            self._fail(tails, ops, error)
        finally:
            for tail in tails:
                tail.busy = False
                if tail.unsure:
                    self._spawn(self._settle(tail))
                self._wake(tail)

    def _fail(self, tails: list[_Tail], ops: list[Any], error: Exception) -> None:
        down = is_down(error)
        refusal: ChatError = Unavailable() if down else Internal()
        if isinstance(error, ChatError):
            refusal = error
        elif not down:
            log.error("commit failed", conversations=len(tails), exc_info=error)
        for tail in tails:
            unanswered = [op for op in ops if not op.future.done()]
            if unanswered:
                tail.unsure = True
        for op in ops:
            _refuse(op, refusal)
        for tail in tails:
            if tail.unsure and down:
                # What waits behind goes too: a sender's later message must not overtake an
                # earlier one that the sender is about to repeat.
                while tail.queue:
                    _refuse(tail.queue.popleft(), refusal)

    # --- sends ----------------------------------------------------------------------------------

    async def _commit_sends(self, runs: list[tuple[_Tail, list[_Send]]]) -> None:
        attempt = 0
        while attempt < ATTEMPTS:
            await self._locate([tail for tail, run in runs if run and not tail.known])
            runs = [(tail, _living(tail, run)) for tail, run in runs]
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
                # Nothing was sent. One of them is at fault, and only that one shall pay.
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
                _refuse(send, Internal())
            elif which == "once":
                if not await self._find_earlier([send for _, send in sends[written:]]):
                    # The index knows it, a majority does not yet: the next attempt will find it.
                    await asyncio.sleep(0.005)
                    attempt += 1
            else:
                # Another node was first: learn what it wrote, then number again.
                await self._catch_up(tail)
                if attempt:
                    await asyncio.sleep(random.random() * 0.001 * 2 ** min(attempt, 6))
                attempt += 1
            runs = [(tail, [one for one in run if not one.future.done()]) for tail, run in runs]
        raise Unavailable("This conversation is too busy.")

    async def _one_by_one(self, sends: list[tuple[_Tail, _Send]]) -> None:
        for tail, send in sends:
            try:
                await self._commit_sends([(tail, [send])])
            except UNENCODABLE:
                _refuse(send, Internal())

    def _number(
        self, runs: list[tuple[_Tail, list[_Send]]]
    ) -> tuple[list[Document], list[tuple[_Tail, _Send]]]:
        at = now()
        docs: list[Document] = []
        sends: list[tuple[_Tail, _Send]] = []
        for tail, run in runs:
            seq, rev = tail.seq, tail.rev
            for send in run:
                seq += 1
                rev += 1
                # _id first: MongoDB puts it there anyway. An earlier attempt left another one.
                doc = {"_id": "", **send.doc}
                doc["_id"] = entry_id(tail.id, rev)
                doc["kind"] = "message"
                doc["seq"] = doc["lastSeq"] = seq
                doc["rev"] = rev
                doc["at"] = doc["updatedAt"] = at
                if self._due:
                    doc["due"] = at
                send.doc = doc
                docs.append(doc)
                sends.append((tail, send))
        return docs, sends

    def _sent(self, tail: _Tail, send: _Send) -> None:
        message = Message(send.doc)
        tail.seq, tail.rev = message.seq, message.rev
        tail.seen_at = time.monotonic()
        if key := send.key:
            self._remember(key, message.id)
        self._tell(Entry(send.doc, message))
        if not send.future.done():
            send.future.set_result(Outcome(message, send.doc))

    def _remember(self, key: tuple[str, str, str], message_id: str) -> None:
        self._remembered[key] = message_id
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    async def _find_earlier(self, sends: list[_Send]) -> bool:
        """Answer those of the sends that repeat what is stored. Whether there were any.

        All of a batch in one query: after a restart a client may repeat all that it has.
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

    async def _repeat_of(
        self, earlier: asyncio.Future[Outcome], future: asyncio.Future[Outcome]
    ) -> None:
        try:
            outcome = await asyncio.shield(earlier)
        except ChatError as error:
            if not future.done():
                future.set_exception(error)
            return
        if not future.done():
            future.set_result(Outcome(outcome.message, None))

    async def _known(self, message_id: str, future: asyncio.Future[Outcome]) -> None:
        try:
            async with deadline():
                doc = await self._mongo.log.find_one({"_id": message_id})
        except (PyMongoError, TimeoutError) as error:
            if not future.done():
                future.set_exception(Unavailable() if is_down(error) else Internal())
            return
        if future.done():
            return
        if doc is None:
            future.set_exception(NotFound())
        else:
            future.set_result(Outcome(Message(doc), None))

    # --- the other changes ----------------------------------------------------------------------

    async def _commit_changes(self, tail: _Tail, ops: list[_Change]) -> None:
        for attempt in range(ATTEMPTS):
            if not tail.known:
                await self._locate([tail])
            ops = [op for op in _living(tail, ops) if not op.future.done()]
            if not ops:
                return
            try:
                entries, answers = await self._mongo.transaction(partial(self._apply, tail, ops))
            except (DuplicateKeyError, BulkWriteError) as error:
                if duplicate_of(error) is None:
                    raise
                await self._catch_up(tail)
                if attempt:
                    await asyncio.sleep(random.random() * 0.001 * 2 ** min(attempt, 6))
                continue
            for entry in entries:
                tail.rev = entry.rev
                tail.seen_at = time.monotonic()
                self._tell(entry)
            for op, answer in zip(ops, answers, strict=True):
                if isinstance(answer, ChatError):
                    _refuse(op, answer)
                elif not op.future.done():
                    op.future.set_result(answer)
            return
        raise Unavailable("This conversation is too busy.")

    async def _apply(
        self, tail: _Tail, ops: list[_Change], session: Session
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
            if self._due:
                doc["due"] = at
            entries.append(Entry(doc, after))
            answers.append(Outcome(after, doc))
        if entries:
            await self._mongo.log.insert_many([entry.doc for entry in entries], session=session)
        if touched:
            await self._mongo.log.bulk_write(
                [replace_one(one.doc) for one in touched.values()], session=session
            )
        return entries, answers

    async def _commit_end(self, tail: _Tail, op: _End) -> None:
        for _ in range(ATTEMPTS):
            if not tail.known:
                await self._locate([tail])
            if not _living(tail, [op]):
                return

            async def body(session: Session) -> None:
                await self._mongo.log.insert_one(
                    {
                        "_id": entry_id(tail.id, tail.rev + 1),
                        "kind": "end",
                        "conversationId": tail.id,
                        "lastSeq": tail.seq,
                        "userId": op.actor_id,
                        "at": now(),
                    },
                    session=session,
                )
                await op.also(session)

            try:
                await self._mongo.transaction(body)
            except DuplicateKeyError:
                await self._catch_up(tail)
                continue
            tail.rev = ENDED
            if not op.future.done():
                op.future.set_result(None)
            return
        raise Unavailable("This conversation is too busy.")

    # --- where the log stands -------------------------------------------------------------------

    async def _last_entry(self, conversation_id: str) -> Document | None:
        return await self._mongo.log.find_one(
            {
                "_id": {
                    "$gt": entry_id(conversation_id, 0),
                    "$lte": entry_id(conversation_id, MAX_REV),
                }
            },
            {"lastSeq": 1, "kind": 1},
            sort=[("_id", -1)],
        )

    async def _locate(self, tails: list[_Tail]) -> None:
        await asyncio.gather(*[self._locate_one(tail) for tail in tails])

    async def _locate_one(self, tail: _Tail) -> None:
        if tail.unsure:
            await self._make_sure(tail)
            return
        if tail.rev == ENDED:
            return
        if tail.rev >= 0:
            # Known once: what came since from elsewhere has not been announced here.
            await self._catch_up(tail)
            return
        doc = await self._last_entry(tail.id)
        if doc is None:
            tail.seq, tail.rev = 0, 0
        elif doc["kind"] == "end":
            tail.rev = ENDED
        else:
            tail.seq, tail.rev = doc["lastSeq"], rev_of(doc["_id"])
        tail.seen_at = time.monotonic()

    async def _catch_up(self, tail: _Tail) -> None:
        """Read and announce what the log has beyond what this node knows of it."""
        entries = [
            doc
            async for doc in self._mongo.log.find(
                {"_id": {"$gt": entry_id(tail.id, tail.rev), "$lte": entry_id(tail.id, MAX_REV)}}
            ).sort("_id", 1)
        ]
        targets = {doc["messageId"] for doc in entries if "messageId" in doc}
        messages = {
            doc["_id"]: doc async for doc in self._mongo.log.find({"_id": {"$in": list(targets)}})
        }
        for doc in entries:
            if doc["kind"] == "end":
                tail.rev = ENDED
                return
            tail.seq, tail.rev = doc["lastSeq"], rev_of(doc["_id"])
            if doc["kind"] == "message":
                self._tell(Entry(doc, Message(doc)))
            elif doc["kind"] != "fence":
                self._tell(Entry(doc, Message(messages[doc["messageId"]])))
        tail.seen_at = time.monotonic()

    async def _make_sure(self, tail: _Tail) -> None:
        """After a write without an answer: find out what became of it, for good.

        It may still be on its way to the database. A fence takes the rev that the write would
        have: if the fence gets in, the write never will; if it does not, the write is there.
        """
        while True:
            if tail.rev < 0:
                doc = await self._last_entry(tail.id)
                tail.rev = rev_of(doc["_id"]) if doc else 0
                tail.seq = doc["lastSeq"] if doc else 0
                if doc and doc["kind"] == "end":
                    tail.rev = ENDED
            else:
                await self._catch_up(tail)
            if tail.rev == ENDED:
                break
            try:
                await self._mongo.log.insert_one(
                    {
                        "_id": entry_id(tail.id, tail.rev + 1),
                        "kind": "fence",
                        "conversationId": tail.id,
                        "lastSeq": tail.seq,
                        "at": now(),
                    }
                )
            except DuplicateKeyError:
                continue
            tail.rev += 1
            break
        tail.seen_at = time.monotonic()
        tail.unsure = False

    async def _settle(self, tail: _Tail) -> None:
        """Make sure of a tail in the background, so that members need no next message to hear."""
        pause = 0.2
        while tail.unsure and not self._closing:
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 5.0)
            if tail.busy or not tail.unsure:
                continue
            tail.busy = True
            try:
                async with deadline():
                    await self._make_sure(tail)
            except (PyMongoError, TimeoutError) as error:
                if not is_down(error):
                    raise
            finally:
                tail.busy = False
                self._wake(tail)

    def _tell(self, entry: Entry) -> None:
        try:
            self._announce(entry)
        except Exception:
            # It is committed: a fault in telling of it may not undo the batch that it came with.
            log.exception("announcing failed", entry=entry.doc["_id"])


ENDED = 2**31
"""The rev of a tail whose conversation was deleted."""
MAX_REV = 0xFFFFFFFF


def _take(queue: deque[_Op], kind: type[Any], most: int) -> list[Any]:
    taken: list[Any] = []
    while queue and isinstance(queue[0], kind) and len(taken) < most:
        taken.append(queue.popleft())
    return taken


def _living(tail: _Tail, ops: list[Any]) -> list[Any]:
    """The ops that can go on; all are refused when the conversation has ended."""
    if tail.rev != ENDED:
        return ops
    for op in ops:
        _refuse(op, NotFound())
    return []


def _refuse(op: Any, refusal: ChatError) -> None:
    if not op.future.done():
        op.future.set_exception(refusal)
