"""The end of one conversation's log as this node knows it, and the changes that wait to be appended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ...errors import ChatError, NotFound
from ...mongo import Document
from ...observability.spans import CURRENT_SPAN, ChangeTrace, change_trace
from ..message import offset_of
from .entry import Change, ConversationTransaction, Outcome

POSITION_AGE_S = 600.0
"""A tail is read again when this node has not read or extended it for this long."""
REMOVED_S = 130.0
"""Twice the highest REQUEST_TIMEOUT_S, and more: a change is committed within this time after its caller was checked (see
`Position`), so earlier removals concern none."""
ENDED = 2**31
"""The offset of a tail whose conversation was deleted."""

Key = tuple[str, str, str]
"""Conversation, sender, clientMessageId."""


class Send:
    __slots__ = ("doc", "future", "key", "trace", "user_id")

    def __init__(self, doc: Document, future: asyncio.Future[Outcome]) -> None:
        self.doc = doc
        self.future = future
        self.user_id: str = doc["senderId"]
        once = doc.get("clientMessageId")
        self.key: Key | None = (doc["conversationId"], self.user_id, once) if once else None
        self.trace: ChangeTrace | None = None
        if CURRENT_SPAN.get() is not None:
            self.trace = change_trace()


class ChangeOp:
    __slots__ = ("change", "future", "trace", "user_id")

    def __init__(self, user_id: str, change: Change, future: asyncio.Future[Outcome]) -> None:
        self.user_id = user_id
        self.change = change
        self.future = future
        self.trace = change_trace()


class ConversationChangeOp:
    """A change of the conversation itself. `transaction` makes the change."""

    __slots__ = ("future", "trace", "transaction", "user_id")

    def __init__(
        self,
        user_id: str,
        transaction: ConversationTransaction,
        future: asyncio.Future[int | None],
    ) -> None:
        self.user_id = user_id
        self.transaction = transaction
        self.future = future
        self.trace = change_trace()


Op = Send | ChangeOp | ConversationChangeOp


class ConversationTail:
    """The end of one conversation's log, as this node knows it."""

    __slots__ = (
        "announced",
        "apart",
        "busy",
        "contended",
        "due",
        "id",
        "offset",
        "pausing",
        "queue",
        "ready",
        "remote_message",
        "remote_seqs",
        "removed",
        "rev",
        "seen_at",
        "seq",
        "unsure",
        "unsure_up_to",
        "urgent",
        "yields_until",
    )

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.due: Sequence[str] | None = None
        """The value of `due` for a message of the conversation, once this node has stored one."""
        self.queue: deque[Op] = deque()
        self.seq = -1
        self.rev = -1
        self.offset = -1
        self.seen_at = 0.0
        self.busy = False
        self.ready = False
        self.unsure = False
        """A write got no answer. Before the next write, we must find out whether it was stored."""
        self.unsure_up_to = -1
        """While unsure: the highest offset that the write may have taken, or may still take."""
        self.announced = -1
        """While unsure: the offset up to which this node has announced its own entries."""
        self.removed: dict[str, float] = {}
        """Users who were removed in the last REMOVED_S, as far as this node knows the log, and when it learnt of
        that. They may have been added again since, so the log is read before one of them is refused."""
        self.apart = False
        """Sends wait for another process that writes to this conversation. They do not share a batch with those
        of other conversations."""
        self.pausing = False
        """No batch starts, because another node has its turn."""
        self.contended = False
        """Other nodes are writing to this conversation now."""
        self.urgent = False
        """This node has asked the other nodes to let it go first."""
        self.yields_until = 0.0
        """Until this time, by the loop's clock, another node goes first."""
        self.remote_seqs: dict[int, int] = {}
        """Messages from other nodes that may be next in the log: the `seq` at each offset."""
        self.remote_message: asyncio.Future[None] | None = None
        """Resolves when another node's message arrives. None while no batch waits for one."""

    @property
    def known(self) -> bool:
        return (
            self.offset >= 0
            and not self.unsure
            and time.monotonic() - self.seen_at < POSITION_AGE_S
        )

    @property
    def undisputed(self) -> bool:
        """True if no other node has lately written to this conversation, or asked to."""
        return not (self.contended or self.urgent or self.remote_seqs or self.yields_until)

    def advance(self, last: Document) -> None:
        """Move the tail to an entry that is now the last one in the log."""
        self.seq, self.rev, self.offset = last["lastSeq"], last["lastRev"], offset_of(last["_id"])
        self.seen_at = time.monotonic()
        for user_id in last.get("added", ()):
            self.removed.pop(user_id, None)
        if removed := last.get("removed"):
            self._note_removed(removed)
        if last["kind"] == "end":
            self.offset = ENDED

    def _note_removed(self, user_ids: Iterable[str]) -> None:
        now = time.monotonic()
        for user_id in user_ids:
            self.removed.pop(user_id, None)
            self.removed[user_id] = now
        while next(iter(self.removed.values())) < now - REMOVED_S:
            del self.removed[next(iter(self.removed))]

    def lost_track(self, ops: int) -> None:
        """A write of at most so many entries has no answer."""
        self.unsure = True
        self.unsure_up_to = self.offset + ops
        self.announced = self.offset

    def suits(self, ops: list[Send] | list[ChangeOp]) -> bool:
        """True if the tail is known well enough to append these."""
        return self.known and not any(op.user_id in self.removed for op in ops)


def take(queue: deque[Op], kind: type[Any], limit: int) -> list[Any]:
    taken: list[Any] = []
    while queue and isinstance(queue[0], kind) and len(taken) < limit:
        taken.append(queue.popleft())
    return taken


def living(
    tail: ConversationTail, ops: list[Any], *, removed: Collection[str] | None = None
) -> list[Any]:
    """Returns the ops that can still be committed. Ops whose caller has given up are left out.

    Ops of removed users, or of a deleted conversation, are refused with NotFound. `removed` replaces the
    tail's own set of removed users.
    """
    if removed is None:
        removed = tail.removed
    for op in ops:
        if tail.offset == ENDED or op.user_id in removed:
            refuse(op, NotFound())
    return [op for op in ops if not op.future.done()]


def refuse(op: Any, refusal: ChatError) -> None:
    if not op.future.done():
        op.future.set_exception(refusal)
    if op.trace is not None:
        op.trace.done()
