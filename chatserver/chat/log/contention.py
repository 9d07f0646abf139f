"""Nodes that write in one conversation at the same time take turns.

A node that has written begins with what came meanwhile, at once: so it would win the next race for a
offset too, and the others would never get one. Whoever loses says so. Who hears that pauses after each
batch, until it has heard what another node wrote, or until nobody wrote anything for PAUSE_S. And what
is heard of the others' messages need not be read: the next batch is numbered from there.

Where two take their turns like this, a third whose write takes longer, as a transaction does, or who does
not hear of their messages, would find no gap. So whoever has lost URGENT times asks all nodes to be let
first, and they wait until that is done.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Literal

from .position import Position
from .tail import Tail

PAUSE_S = 0.005
"""A turn: to hear of the last one, an insert with its journal, and to be heard."""
HEAR_S = 0.003
"""How long what won a race is waited for before it is read: until then it is perhaps not on record with
the majority that is read from, so that reading would not find it."""
URGENT = 4
"""Races lost after each other by one batch."""
YIELD_S = 0.3
"""How long others wait for who is to be first, unless that is done before: many times a transaction."""
HEARD = 1000
"""Offsets of one conversation that are remembered while a batch of it is under way."""

Word = Literal["lost", "first", "done"]
"""What the nodes say to each other: I have lost a race; let me be first; I have been. `lost` is for those
who hear the conversation's messages, the others for all."""


class Turns:
    """`say(conversation, word)` tells the other nodes; `whole()` is whether they are heard;
    `go_on(tail)` is called when a pause is over."""

    def __init__(
        self,
        position: Position,
        say: Callable[[str, Word], None],
        whole: Callable[[], bool],
        go_on: Callable[[Tail], None],
    ) -> None:
        self._position = position
        self._say = say
        self._whole = whole
        self._go_on = go_on
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[Tail, asyncio.TimerHandle] = {}
        self._closed = False
        self.lost_races = 0

    def pausing(self, tail: Tail) -> bool:
        return tail in self._pauses

    def over(self, tail: Tail) -> None:
        """A batch of the tail has ended."""
        if tail.urgent:
            tail.urgent = False
            self._say(tail.id, "done")
        heard = self._advance(tail)
        if self._closed:
            return
        if (left := self._yields_for(tail)) > 0:
            self._pause(tail, left, self._end)
        elif heard:
            return
        elif tail.contended:
            self._pause(tail, PAUSE_S, self._in_vain)
        elif not self._whole():
            # Nobody can say that a race was lost.
            self._pause(tail, random.uniform(0, PAUSE_S), self._in_vain)

    async def lost(self, tail: Tail, attempt: int) -> set[str]:
        """Another node has taken the offset: learn what it wrote. Returns who was removed by it.

        What is heard are messages, without a gap: nobody was removed by them or between them.
        """
        tail.contended = True
        self.lost_races += 1
        if (attempt + 1) % URGENT:
            self._say(tail.id, "lost")
        else:
            tail.urgent = True
            self._say(tail.id, "first")
        if not tail.urgent and (left := self._yields_for(tail)) > 0:
            await self._hear(tail, left)
        if self._advance(tail):
            return set()
        if self._whole():
            await self._hear(tail, HEAR_S)
            if self._advance(tail):
                return set()
        elif attempt:
            await asyncio.sleep(random.random() * 0.001 * 2 ** min(attempt, 3))
        return await self._position.catch_up(tail)

    async def _hear(self, tail: Tail, seconds: float) -> None:
        """Wait for what another node has to say of the conversation."""
        tail.hears = self._loop.create_future()
        try:
            await asyncio.wait([tail.hears], timeout=seconds)
        finally:
            tail.hears = None

    def said(self, tail: Tail, word: Word) -> None:
        """Another node says so of this conversation."""
        if word == "done":
            tail.yields_until = 0.0
            self._wake(tail)
            if tail in self._pauses:
                self._end(tail)
            return
        tail.contended = True
        if word == "first" and not self._closed:
            tail.yields_until = self._loop.time() + YIELD_S
            # One that is ready begins before anybody could hear of its pause.
            if not tail.busy and not tail.ready:
                self._pause(tail, YIELD_S, self._end)

    def _yields_for(self, tail: Tail) -> float:
        return tail.yields_until - self._loop.time()

    def heard(self, tail: Tail, offset: int, seq: int) -> None:
        """Another node has committed a message."""
        if not tail.known or offset <= tail.offset:
            return
        if len(tail.heard) < HEARD:
            tail.heard[offset] = seq
        if tail.busy:
            self._wake(tail)
        elif self._advance(tail) and tail in self._pauses and self._yields_for(tail) <= 0:
            self._end(tail)

    @staticmethod
    def _wake(tail: Tail) -> None:
        if tail.hears is not None and not tail.hears.done():
            tail.hears.set_result(None)

    def close(self) -> None:
        """No more pauses."""
        self._closed = True
        for tail in tuple(self._pauses):
            self._end(tail)

    def _advance(self, tail: Tail) -> bool:
        """Take what was heard for what is there, as far as nothing is missing in between."""
        heard, before = tail.heard, tail.offset
        if not heard:
            return False
        if tail.known:
            while (seq := heard.pop(tail.offset + 1, None)) is not None:
                tail.offset += 1
                tail.rev += 1
                tail.seq = seq
        for offset in [one for one in heard if one <= tail.offset]:
            del heard[offset]
        return tail.offset > before

    def _pause(self, tail: Tail, seconds: float, then: Callable[[Tail], None]) -> None:
        if (earlier := self._pauses.get(tail)) is not None:
            earlier.cancel()
        self._pauses[tail] = self._loop.call_later(seconds, then, tail)

    def _in_vain(self, tail: Tail) -> None:
        tail.contended = False
        self._end(tail)

    def _end(self, tail: Tail) -> None:
        self._pauses.pop(tail).cancel()
        self._go_on(tail)
