"""The methods that append to the log, and the queue behind them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from ...errors import ChatError, Internal, Unavailable
from ...mongo import (
    DatabaseUnavailable,
    Document,
    Mongo,
    is_down,
)
from ...observability.metrics import Families, Histograms
from ..membership import Members
from ..message import conversation_of
from ..outside import ConversationRooms, Routes
from ..signals import TakesTurns
from .changes import Changes
from .contention import Contention
from .entry import Change, ConversationTransaction, Entry, Outcome
from .position import Position
from .sends import Sends
from .tail import ChangeOp, ConversationChangeOp, ConversationTail, Op, Send, refuse
from .writers import Writers

log = structlog.get_logger(__name__)

QUIET_S = 1.0
"""A database that has committed nothing for this long while a batch waited for it is taken to be down."""
SETTLERS = 16
"""Conversations that are settled at once: a locked one takes a connection for as long as an operation may."""
QUEUE = 2000
"""Changes that may wait in one conversation. Further ones are refused."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""The bounds of the histogram of changes per batch."""
TAILS = 20_000
"""Conversations whose tails are remembered. Beyond this number, idle ones are forgotten."""


class Log:
    """Appends changes and announces them.

    `announce` is called once for each entry that was committed here, right after the commit, in order
    per conversation. `routes`: the webhook endpoints to which an entry is due.
    """

    def __init__(
        self,
        mongo: Mongo,
        rooms: ConversationRooms,
        members: Members,
        announce: Callable[[Entry], None],
        announce_stored: Callable[[str, int, int], Awaitable[None]],
        routes: Routes,
    ) -> None:
        self._mongo = mongo
        self._rooms = rooms
        self._position = Position(mongo, announce, rooms.behind, announce_stored)
        self._contention = Contention(self._position, rooms, lambda tail: self._wake(tail))
        self._sends = Sends(mongo, self._position, self._contention, announce, routes)
        self._changes = Changes(mongo, members, self._position, self._contention, announce, routes)
        self._writers = Writers(
            self._sends, self._changes, lambda *batch: self._spawn(self._batch(*batch))
        )
        self._wake = self._writers.wake
        # Kept: on Python 3.11 each get_running_loop() is a system call.
        self._loop = asyncio.get_running_loop()
        self._tails: OrderedDict[str, ConversationTail] = OrderedDict()
        self._committed_at = 0.0
        """When the last batch was committed."""
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._settlers = asyncio.Semaphore(SETTLERS)
        self._pending: dict[tuple[str, str, str], asyncio.Future[Outcome]] = {}
        self._sizes = Histograms(SIZES)
        self._took = Histograms()
        """Sizes and durations of batches, by kind: `sends`, `apart` (sends that wait for another process),
        `changes` (of messages) or `acts` (on a conversation or its members)."""
        rooms.on(TakesTurns, self._on_signal)
        rooms.on_remote_message(self._on_remote_message)

    # --- appending ------------------------------------------------------------------------------

    def append(self, doc: Document) -> asyncio.Future[Outcome]:
        """Queue a new message. `doc` has no id, seq, rev or times yet.

        Messages of one conversation are stored in the order of the calls. A repeated clientMessageId
        resolves to the existing message, with `entry` None.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()
        send = Send(doc, future)
        if key := send.key:
            if earlier := self._pending.get(key):
                self._spawn(self._repeat_of(earlier, doc, future))
                return future
            if message_id := self._sends.remembered(key):
                self._spawn(self._sends.resolve(message_id, future))
                return future
            self._pending[key] = future
            future.add_done_callback(lambda _: self._pending.pop(key, None))
        self._enqueue(doc["conversationId"], send)
        return future

    def change(self, actor_id: str, change: Change) -> asyncio.Future[Outcome]:
        """Queue a change of a message, in order with all changes of its conversation."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._enqueue(conversation_of(change.message_id), ChangeOp(actor_id, change, future))
        return future

    def change_conversation(
        self,
        conversation_id: str,
        actor_id: str,
        transaction: ConversationTransaction,
    ) -> asyncio.Future[int | None]:
        """Queue a change of the conversation itself. The future resolves to the offset of its entry.

        `transaction` makes the change, in the database transaction that also writes the entry. It receives
        that entry's offset and the `seq` of the last message before it, and may run several times. If it returns
        None there is nothing to change, and the future resolves to None. If it raises a ChatError, the change is
        refused. After a change of kind `end`, all later changes of the conversation are refused with NotFound,
        on every node.
        """
        future: asyncio.Future[int | None] = self._loop.create_future()
        self._enqueue(conversation_id, ConversationChangeOp(actor_id, transaction, future))
        return future

    def _on_remote_message(self, conversation_id: str, offset: int, seq: int) -> None:
        """Another node has committed a message. The next batch here need not read it."""
        if (tail := self._tails.get(conversation_id)) is not None:
            self._contention.on_remote_message(tail, offset, seq)

    def _on_signal(self, signal: TakesTurns) -> None:
        if (tail := self._tails.get(signal.conversation_id)) is not None:
            self._contention.on_signal(tail, signal.turn)

    async def position(self, conversation_id: str) -> tuple[int, int]:
        """Returns (lastSeq, lastRev) from the database."""
        return await self._position.of(conversation_id)

    def watch(self, metrics: Families) -> None:
        self._sends.watch(metrics)
        self._contention.watch(metrics)
        self._writers.watch(metrics)
        metrics.memory("tails of logs", lambda: len(self._tails), TAILS)
        metrics.memory("sends that wait", lambda: len(self._pending), None)
        metrics.memory(
            "batches",
            lambda: len(self._tasks) + len(self._settling),
            None,
        )
        metrics.histograms(
            "chat_log_batch_changes",
            "Changes per batch, by kind: sends, apart (sends that wait for another process), changes (of "
            "messages) or acts (on a conversation).",
            "kind",
            self._sizes,
        )
        metrics.histograms(
            "chat_log_commit_seconds",
            "Time to commit and announce a batch, by kind.",
            "kind",
            self._took,
        )
        metrics.gauge(
            "chat_log_conversations_unsure",
            "Conversations of which it is unknown whether the last write was stored.",
            lambda: sum(tail.unsure for tail in self._tails.values()),
        )
        metrics.counter(
            "chat_log_races_lost_total",
            "Races for an offset that another node won.",
            lambda: self._contention.lost_races,
        )

    async def close(self) -> None:
        """Refuse new changes, and return when the queued ones are finished."""
        self._closing = True
        self._contention.close()
        for settling in self._settling:
            # No client is left to notify. The next node that writes finds out.
            settling.cancel()
        while self._tasks or self._writers:
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    # --- the queue ------------------------------------------------------------------------------

    def _enqueue(self, conversation_id: str, op: Op) -> None:
        tail = self._tails.get(conversation_id)
        if tail is None:
            tail = self._tails[conversation_id] = ConversationTail(conversation_id)
            self._forget_idle()
        # While the tail is unsure, each batch would wait in turn for a database that has just failed to
        # answer. `_settle` first finds out whether the last write was stored.
        if self._closing or tail.unsure or len(tail.queue) >= QUEUE:
            refuse(op, Unavailable())
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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _batch(
        self,
        kind: str,
        tails: list[ConversationTail],
        ops: list[Any],
        commit: Coroutine[Any, Any, None],
    ) -> None:
        """Commit one batch. Whatever happens, every future is resolved and the tails continue."""
        began = time.perf_counter()
        for tail in tails:
            self._tails.move_to_end(tail.id)
        self._sizes[kind].observe(len(ops))
        traces = [op.trace for op in ops if op.trace is not None]
        try:
            for trace in traces:
                trace.commit(traces, len(ops))
            # `deadline` would cost a lone send more. `_fail` tells the errors apart instead.
            async with asyncio.timeout(self._mongo.timeout_s):
                await commit
            self._committed_at = time.perf_counter()
            if len(tails) == 1:
                tails[0].apart = False
        except Exception as error:  # passed on to the callers that wait for the batch
            self._fail(tails, ops, error)
        finally:
            self._took[kind].observe(time.perf_counter() - began)
            for trace in traces:
                trace.done()
            for tail in tails:
                tail.busy = False
                if tail.unsure:
                    settling = self._loop.create_task(self._settle(tail))
                    self._settling.add(settling)
                    settling.add_done_callback(self._settling.discard)
                elif not (tail.undisputed and self._rooms.in_sync):
                    self._contention.batch_ended(tail)
                self._wake(tail)
            self._writers.ended(kind, tails)

    def _fail(self, tails: list[ConversationTail], ops: list[Any], error: Exception) -> None:
        down = is_down(error)
        refusal: ChatError = Unavailable() if down else Internal()
        if isinstance(error, ChatError):
            refusal = error
        elif not down:
            log.error("commit failed", conversations=len(tails), exc_info=error)
        if any(not op.future.done() or op.future.cancelled() for op in ops):
            # Only sends share a batch with those of other conversations.
            sends = Counter(op.doc["conversationId"] for op in ops) if len(tails) > 1 else {}
            for tail in tails:
                if not tail.unsure:
                    tail.lost_track(sends.get(tail.id, len(ops)))
        for op in ops:
            refuse(op, refusal)
        if down:
            # Refuse the queued changes as well. A sender's later message must not overtake an earlier
            # one that the sender is about to repeat, and no caller should wait twice as long.
            waiting = [*tails]
            # But if other batches are committed, only these conversations are locked.
            if time.perf_counter() - self._committed_at > QUIET_S:
                waiting += self._writers.take_all()
            for tail in waiting:
                while tail.queue:
                    refuse(tail.queue.popleft(), refusal)

    async def _settle(self, tail: ConversationTail) -> None:
        """Settle an unsure tail in the background.

        Without this, members would receive a message that was stored after all only with the next message.
        """
        pause = 0.1
        while tail.unsure:
            if not tail.busy and not tail.ready:
                tail.busy = True
                try:
                    async with self._settlers, self._mongo.deadline():
                        await self._position.make_sure(tail)
                except DatabaseUnavailable:
                    pass
                except Exception:  # whatever it is: an unsure conversation refuses every change
                    log.exception("settling failed", conversation=tail.id)
                finally:
                    tail.busy = False
                    self._wake(tail)
            if tail.unsure:
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, 0.5)

    async def _repeat_of(
        self, earlier: asyncio.Future[Outcome], doc: Document, future: asyncio.Future[Outcome]
    ) -> None:
        await asyncio.wait([earlier])
        while earlier.cancelled() and not future.done():
            # The first caller gave up. If the message is stored, the index leads to it.
            earlier = self.append(doc)
            await asyncio.wait([earlier])
        if future.done():
            return
        if error := earlier.exception():
            future.set_exception(error)
        else:
            future.set_result(Outcome(earlier.result().message, None))
