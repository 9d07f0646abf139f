"""The end of one conversation's log, as this node knows it, and what waits to be appended."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ...errors import ChatError, NotFound
from ...mongo import Document, Session
from .entry import Change, Outcome

POSITION_AGE_S = 600.0
"""A conversation's position is read again when this old, however busy the conversation."""
ATTEMPTS = 100
"""Tries of a batch whose revs other nodes took first: a node that writes without a pause leaves another
little room, and whoever loses has to be stubborn. They take about a second, well within the deadline."""
ENDED = 2**31
"""The rev of a tail whose conversation was deleted."""


class Send:
    __slots__ = ("doc", "future")

    def __init__(self, doc: Document, future: asyncio.Future[Outcome]) -> None:
        self.doc = doc
        self.future = future

    @property
    def key(self) -> tuple[str, str, str] | None:
        once = self.doc.get("clientMessageId")
        return once and (self.doc["conversationId"], self.doc["senderId"], once)


class ChangeOp:
    __slots__ = ("actor_id", "change", "future")

    def __init__(self, actor_id: str, change: Change, future: asyncio.Future[Outcome]) -> None:
        self.actor_id = actor_id
        self.change = change
        self.future = future


class End:
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


Op = Send | ChangeOp | End


class Tail:
    """The end of one conversation's log, as this node knows it."""

    __slots__ = ("busy", "id", "queue", "ready", "rev", "seen_at", "seq", "unsure")

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.queue: deque[Op] = deque()
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


def take(queue: deque[Op], kind: type[Any], most: int) -> list[Any]:
    taken: list[Any] = []
    while queue and isinstance(queue[0], kind) and len(taken) < most:
        taken.append(queue.popleft())
    return taken


def living(tail: Tail, ops: list[Any]) -> list[Any]:
    """The ops that can go on: nobody has given one up, and the conversation has not ended."""
    if tail.rev != ENDED:
        return [op for op in ops if not op.future.done()]
    for op in ops:
        refuse(op, NotFound())
    return []


def refuse(op: Any, refusal: ChatError) -> None:
    if not op.future.done():
        op.future.set_exception(refusal)
