"""What other nodes are asked to confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count

from .pubsub import PubSub

WAIT_S = 1.0
"""A node that does not answer within it is cut off or stalled: it catches up before it goes on."""


class Questions:
    """Messages that are answered by every node that gets them; each question has a number."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._open: dict[int, tuple[asyncio.Future[None], int | None, int]] = {}

    def ask(
        self, bus: PubSub, channel: str, message: Callable[[int], bytes]
    ) -> asyncio.Future[None]:
        """Publish `message(number)`. Done when all who hear it have answered, or after WAIT_S; at once
        while the bus is away. This node is among them, if it hears the channel: Redis counts it."""
        number = next(self._numbers) & 0xFFFFFFFF
        future: asyncio.Future[None] = self._loop.create_future()
        self._open[number] = (future, None, 0)
        self._loop.call_later(WAIT_S, self._close, number)
        if not bus.up:
            self.give_up()
        bus.publish(channel, message(number), partial(self._reached, number))
        return future

    def answered(self, number: int) -> None:
        if number in self._open:
            future, nodes, answers = self._open[number]
            self._note(number, future, nodes, answers + 1)

    def give_up(self) -> None:
        """Nobody can be reached now."""
        for number in tuple(self._open):
            self._close(number)

    def _reached(self, number: int, nodes: int) -> None:
        """So many nodes have to answer."""
        if number in self._open:
            future, _, answers = self._open[number]
            self._note(number, future, nodes, answers)

    def _note(
        self, number: int, future: asyncio.Future[None], nodes: int | None, answers: int
    ) -> None:
        self._open[number] = (future, nodes, answers)
        if nodes is not None and answers >= nodes:
            self._close(number)

    def _close(self, number: int) -> None:
        found = self._open.pop(number, None)
        if found is not None and not found[0].done():
            found[0].set_result(None)
