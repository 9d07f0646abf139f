"""What nodes confirm to each other: that a change which moves somebody has been applied."""

from __future__ import annotations

import asyncio

from ..bus.acknowledgements import Questions
from ..bus.pubsub import PubSub
from .messages import encode_answer, encode_update, of_node, of_room


class Confirmations(Questions):
    """What this node asks, and what it owes to others until a room has reached an offset."""

    bus: PubSub

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node
        self._asked: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._owed: dict[str, list[tuple[int, str, bytes]]] = {}

    def move(self, room: str, offset: int, update: bytes) -> None:
        """Tell a change to all who hear the room; they are to confirm it."""
        node = self._node.encode()
        asked = self.ask(
            self.bus, of_room(room), lambda number: encode_update(node, offset, update, number)
        )
        self._asked[room, offset] = asked
        asked.add_done_callback(lambda _: self._asked.pop((room, offset), None))

    async def moved(self, room: str, offset: int) -> None:
        """Return when all have confirmed it, or after a second."""
        if (asked := self._asked.get((room, offset))) is not None:
            await asyncio.wait([asked])

    def answer(self, node: str, question: bytes) -> None:
        if node == self._node:
            self.answered(int(question, 16))
        else:
            self.bus.publish(of_node(node), encode_answer(self._node.encode(), question))

    def owe(self, room: str, offset: int, node: str, question: bytes) -> None:
        """Answer when the room has reached the offset, or is not followed here any more."""
        self._owed.setdefault(room, []).append((offset, node, question))

    def reached(self, room: str, offset: int) -> None:
        if room in self._owed:
            for one in self._owed.pop(room):
                if one[0] <= offset:
                    self.answer(one[1], one[2])
                else:
                    self.owe(room, *one)

    def left(self, room: str) -> None:
        for _, node, question in self._owed.pop(room, ()):
            self.answer(node, question)
