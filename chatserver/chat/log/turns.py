"""Nodes that write in one conversation at the same time take turns.

A node that has written begins with what came meanwhile, at once: so it would win the next race for a
place too, and the others would never get one. Whoever loses says so. Who hears that pauses after each
batch, until it has heard what another node wrote, or until nobody wrote anything for PAUSE_S. And what
is heard of the others' messages need not be read: the next batch is numbered from there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from .position import Position
from .tail import Tail

PAUSE_S = 0.005
"""A turn: to hear of the last one, an insert with its journal, and to be heard."""
HEAR_S = 0.003
"""How long what won a race is waited for before it is read: until then it is perhaps not on record with
the majority that is read from, so that reading would not find it."""
HEARD = 1000
"""Places of one conversation that are remembered while a batch of it is under way."""


class Turns:
    """`lose(conversation)` tells the other nodes that this one has lost a race; `whole()` is whether
    they are heard; `go_on(tail)` is called when a pause is over."""

    def __init__(
        self,
        position: Position,
        lose: Callable[[str], None],
        whole: Callable[[], bool],
        go_on: Callable[[Tail], None],
    ) -> None:
        self._position = position
        self._lose = lose
        self._whole = whole
        self._go_on = go_on
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[Tail, asyncio.TimerHandle] = {}
        self._closed = False

    def pausing(self, tail: Tail) -> bool:
        return tail in self._pauses

    def over(self, tail: Tail) -> None:
        """A batch of the tail has ended."""
        if self._advance(tail) or self._closed:
            return
        if tail.contended:
            self._pauses[tail] = self._loop.call_later(PAUSE_S, self._in_vain, tail)
        elif not self._whole():
            # Nobody can say that a race was lost.
            pause = random.uniform(0, PAUSE_S)
            self._pauses[tail] = self._loop.call_later(pause, self._in_vain, tail)

    async def lost(self, tail: Tail, attempt: int) -> set[str]:
        """Another node has taken the place: learn what it wrote. Returns who was removed by it.

        What is heard are messages, without a gap: nobody was removed by them or between them.
        """
        tail.contended = True
        self._lose(tail.id)
        if self._advance(tail):
            return set()
        if self._whole():
            tail.hears = self._loop.create_future()
            try:
                await asyncio.wait([tail.hears], timeout=HEAR_S)
            finally:
                tail.hears = None
            if self._advance(tail):
                return set()
        elif attempt:
            await asyncio.sleep(random.random() * 0.001 * 2 ** min(attempt, 3))
        return await self._position.catch_up(tail)

    def contended(self, tail: Tail) -> None:
        """Another node has lost a race in this conversation."""
        tail.contended = True

    def heard(self, tail: Tail, place: int, seq: int) -> None:
        """Another node has committed a message."""
        if not tail.known or place <= tail.place:
            return
        if len(tail.heard) < HEARD:
            tail.heard[place] = seq
        if not tail.busy:
            if self._advance(tail) and tail in self._pauses:
                self._end(tail)
        elif tail.hears is not None and not tail.hears.done():
            tail.hears.set_result(None)

    def close(self) -> None:
        """No more pauses."""
        self._closed = True
        for tail in tuple(self._pauses):
            self._end(tail)

    def _advance(self, tail: Tail) -> bool:
        """Take what was heard for what is there, as far as nothing is missing in between."""
        heard, before = tail.heard, tail.place
        if not heard:
            return False
        if tail.known:
            while (seq := heard.pop(tail.place + 1, None)) is not None:
                tail.place += 1
                tail.rev += 1
                tail.seq = seq
        for place in [one for one in heard if one <= tail.place]:
            del heard[place]
        return tail.place > before

    def _in_vain(self, tail: Tail) -> None:
        tail.contended = False
        self._end(tail)

    def _end(self, tail: Tail) -> None:
        self._pauses.pop(tail).cancel()
        self._go_on(tail)
