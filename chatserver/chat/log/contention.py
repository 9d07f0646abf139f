"""Contention: nodes that write in one conversation at the same time take turns.

A node that has committed a batch starts the next one immediately. It would win every race for an offset,
and the other nodes would never get one. So a node that loses a race signals `lost`. A node that receives
the signal pauses after each batch, until it receives another node's message or PAUSE_S has passed.
Messages received from other nodes need not be read from the database: the next batch is numbered after them.

Two nodes that take turns leave no opening for a third node whose write takes longer, as a transaction
does, or that does not receive their messages. So a node that has lost URGENT races signals `first` to all
nodes, and they wait until it signals `done`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from ...observability.metrics import Families
from ..outside import ConversationRooms
from ..signals import TakesTurns, Turn
from .position import Position
from .tail import ConversationTail

PAUSE_S = 0.005
"""The length of a turn. In it the last batch arrives, and the next one is journaled and sent around."""
RECEIVE_WAIT_S = 0.003
"""How long a node that lost a race waits for the winner's messages before it reads the database. An
earlier read might not find them, because a majority may not have them yet."""
URGENT = 4
"""Races that a batch loses before its node asks to go first."""
YIELD_S = 0.3
"""How long the other nodes wait for the node that goes first: many times as long as a transaction."""
MAX_REMOTE_SEQS = 1000
"""Offsets of other nodes' messages that are remembered during a batch, per conversation."""


class Contention:
    """Decides when this node pauses between batches, and what it does after a lost race.

    `resume(tail)` is called when a pause is over.
    """

    def __init__(
        self,
        position: Position,
        rooms: ConversationRooms,
        resume: Callable[[ConversationTail], None],
    ) -> None:
        self._position = position
        self._rooms = rooms
        self._resume = resume
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[ConversationTail, asyncio.TimerHandle] = {}
        self._closed = False
        self.lost_races = 0

    def watch(self, metrics: Families) -> None:
        metrics.memory("pauses between nodes", lambda: len(self._pauses), None)

    def batch_ended(self, tail: ConversationTail) -> None:
        """A batch of the tail is finished. Pauses if another node should have a turn."""
        if tail.urgent:
            tail.urgent = False
            self._signal(tail, "done")
        received = self._advance(tail)
        if self._closed:
            return
        if (left := self._yields_for(tail)) > 0:
            self._pause(tail, left, self._end)
        elif received:
            return
        elif tail.contended:
            self._pause(tail, PAUSE_S, self._end_contention)
        elif not self._rooms.in_sync:
            # No other node could signal that it lost a race.
            self._pause(tail, random.uniform(0, PAUSE_S), self._end_contention)

    def note_lost_race(self, tail: ConversationTail) -> None:
        """Another node has taken the offset. Ask it for a turn."""
        tail.contended = True
        self.lost_races += 1
        self._signal(tail, "lost")

    async def lost_race(self, tail: ConversationTail, attempt: int) -> None:
        """Another node has taken the offset. Ask it for a turn, and learn what it wrote."""
        if (attempt + 1) % URGENT:
            self.note_lost_race(tail)
        else:
            tail.contended = True
            self.lost_races += 1
            tail.urgent = True
            self._signal(tail, "first")
        if not tail.urgent and (left := self._yields_for(tail)) > 0:
            await self._wait_for_message(tail, left)
        if self._advance(tail):
            return
        if self._rooms.in_sync:
            await self._wait_for_message(tail, RECEIVE_WAIT_S)
            if self._advance(tail):
                return
        elif attempt:
            await asyncio.sleep(random.random() * 0.001 * 2 ** min(attempt, 3))
        await self._position.catch_up(tail)

    async def _wait_for_message(self, tail: ConversationTail, seconds: float) -> None:
        """Wait until another node's message or signal `done` arrives, for `seconds` at most."""
        tail.remote_message = self._loop.create_future()
        try:
            await asyncio.wait([tail.remote_message], timeout=seconds)
        finally:
            tail.remote_message = None

    def _signal(self, tail: ConversationTail, turn: Turn) -> None:
        """`lost` is for the nodes that receive the conversation's messages; the others are for all nodes."""
        self._rooms.signal(TakesTurns(tail.id, turn), room=tail.id if turn == "lost" else None)

    def on_signal(self, tail: ConversationTail, turn: Turn) -> None:
        """Another node has sent a signal about this conversation."""
        if turn == "done":
            tail.yields_until = 0.0
            self._wake(tail)
            if tail.pausing:
                self._end(tail)
            return
        tail.contended = True
        if turn == "first" and not self._closed:
            tail.yields_until = self._loop.time() + YIELD_S
            # A tail that is ready already waits for a writer: a pause would be too late.
            if not tail.busy and not tail.ready:
                self._pause(tail, YIELD_S, self._end)

    def _yields_for(self, tail: ConversationTail) -> float:
        return tail.yields_until - self._loop.time()

    def on_remote_message(self, tail: ConversationTail, offset: int, seq: int) -> None:
        """Another node has committed a message."""
        if not tail.known or offset <= tail.offset:
            return
        if len(tail.remote_seqs) < MAX_REMOTE_SEQS:
            tail.remote_seqs[offset] = seq
        if tail.busy:
            self._wake(tail)
        elif self._advance(tail) and tail.pausing and self._yields_for(tail) <= 0:
            self._end(tail)

    @staticmethod
    def _wake(tail: ConversationTail) -> None:
        if tail.remote_message is not None and not tail.remote_message.done():
            tail.remote_message.set_result(None)

    def close(self) -> None:
        """No more pauses."""
        self._closed = True
        for tail in tuple(self._pauses):
            self._end(tail)

    def _advance(self, tail: ConversationTail) -> bool:
        """Move the tail behind the messages received from other nodes, up to the first missing offset.

        Returns True if it has moved.
        """
        remote_seqs, before = tail.remote_seqs, tail.offset
        if not remote_seqs:
            return False
        if tail.known:
            while (seq := remote_seqs.pop(tail.offset + 1, None)) is not None:
                tail.offset += 1
                tail.rev += 1
                tail.seq = seq
        for offset in [offset for offset in remote_seqs if offset <= tail.offset]:
            del remote_seqs[offset]
        return tail.offset > before

    def _pause(
        self, tail: ConversationTail, seconds: float, then: Callable[[ConversationTail], None]
    ) -> None:
        if (earlier := self._pauses.get(tail)) is not None:
            earlier.cancel()
        self._pauses[tail] = self._loop.call_later(seconds, then, tail)
        tail.pausing = True

    def _end_contention(self, tail: ConversationTail) -> None:
        tail.contended = False
        self._end(tail)

    def _end(self, tail: ConversationTail) -> None:
        self._pauses.pop(tail).cancel()
        tail.pausing = False
        self._resume(tail)
