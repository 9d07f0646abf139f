"""Nodes confirm to each other that they have applied an update that moves users into or out of a room."""

from __future__ import annotations

import asyncio

from ..bus.acknowledgements import Acknowledgements
from ..bus.pubsub import PubSub
from ..memory import Memory
from .messages import encode_ack, encode_update, of_node, of_room


class Confirmations(Acknowledgements):
    """The requests of this node, and requests of other nodes that wait until a room here reaches an offset."""

    bus: PubSub

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node
        self._moves: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._waiting: dict[str, list[tuple[int, str, bytes]]] = {}

    def watch(self, memory: Memory) -> None:
        super().watch(memory)
        memory("confirmations between nodes", lambda: len(self._moves) + len(self._waiting), None)

    def move(self, room: str, offset: int, update: bytes) -> None:
        """Publish an update to all nodes that follow the room, and request their confirmation."""
        node = self._node.encode()
        move = self.request(
            self.bus, of_room(room), lambda number: encode_update(node, offset, update, number)
        )
        self._moves[room, offset] = move
        move.add_done_callback(lambda _: self._moves.pop((room, offset), None))

    async def moved(self, room: str, offset: int) -> None:
        """Return when all nodes have confirmed the update, or after a second."""
        if (move := self._moves.get((room, offset))) is not None:
            await asyncio.wait([move])

    def acknowledge(self, node: str, request: bytes) -> None:
        if node == self._node:
            self.acknowledged(int(request, 16))
        else:
            self.bus.publish(of_node(node), encode_ack(self._node.encode(), request))

    def ack_when_reached(self, room: str, offset: int, node: str, request: bytes) -> None:
        """Acknowledge when the room reaches the offset, or when this node stops following it."""
        self._waiting.setdefault(room, []).append((offset, node, request))

    def reached(self, room: str, offset: int) -> None:
        if room in self._waiting:
            for wanted, node, request in self._waiting.pop(room):
                if wanted <= offset:
                    self.acknowledge(node, request)
                else:
                    self.ack_when_reached(room, wanted, node, request)

    def left(self, room: str) -> None:
        for _, node, request in self._waiting.pop(room, ()):
            self.acknowledge(node, request)
