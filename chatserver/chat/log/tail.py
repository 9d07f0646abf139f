"""The end of one conversation's log as this node knows it, and the changes that wait to be appended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from ...errors import ChatError, NotFound
from ...mongo import Document, Session
from ...observability.spans import change_trace
from .entry import Change, ConversationChange, Outcome

POSITION_AGE_S = 600.0
"""A tail is read again when this node has not read or extended it for this long."""
REMOVED_S = 60.0
"""A change is committed at most 4.5 s after its caller's membership was checked, so older removals concern none."""
ATTEMPTS = 100
"""Attempts of a batch that keeps losing races. A node that writes without a pause leaves the others little
room, so a loser must be persistent. All attempts take about a second, well within the deadline."""
ENDED = 2**31
"""The offset of a tail whose conversation was deleted."""


class Send:
    __slots__ = ("doc", "future", "trace")

    def __init__(self, doc: Document, future: asyncio.Future[Outcome]) -> None:
        self.doc = doc
        self.future = future
        self.trace = change_trace()

    @property
    def user_id(self) -> str:
        return self.doc["senderId"]

    @property
    def key(self) -> tuple[str, str, str] | None:
        once = self.doc.get("clientMessageId")
        return once and (self.doc["conversationId"], self.doc["senderId"], once)


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
        transaction: Callable[[Session, int], Awaitable[ConversationChange | None]],
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
        "busy",
        "contended",
        "id",
        "offset",
        "queue",
        "ready",
        "remote_message",
        "remote_seqs",
        "removed",
        "rev",
        "seen_at",
        "seq",
        "unsure",
        "urgent",
        "yields_until",
    )

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.queue: deque[Op] = deque()
        self.seq = -1
        self.rev = -1
        self.offset = -1
        self.seen_at = 0.0
        self.busy = False
        self.ready = False
        self.unsure = False
        """A write got no answer. Before the next write, we must find out whether it was stored."""
        self.removed: dict[str, float] = {}
        """Users who were removed in the last REMOVED_S, as far as this node knows the log, and when it learnt of
        that. They may have been added again since, so the log is read before one of them is refused."""
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

    def note_removed(self, user_ids: Iterable[str]) -> None:
        now = time.monotonic()
        for user_id in user_ids:
            self.removed.pop(user_id, None)
            self.removed[user_id] = now
        while next(iter(self.removed.values())) < now - REMOVED_S:
            del self.removed[next(iter(self.removed))]

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
