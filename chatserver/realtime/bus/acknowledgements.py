"""Requests that other nodes acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count

from ..expiry_queue import ExpiryQueue
from ..memory import Memory
from .pubsub import PubSub

WAIT_S = 1.0
"""A node that takes longer to acknowledge is cut off or stalled, and catches up before it relies on memory."""
SLACK_S = 0.01


class Acknowledgements:
    """Publishes requests with numbers, and counts the nodes that acknowledge each."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._expiry = ExpiryQueue(WAIT_S, self._close, slack_s=SLACK_S)
        self._open: dict[int, tuple[asyncio.Future[None], int | None, int]] = {}
        """By number of an open request: its future, how many nodes received it (None until Redis replies),
        and how many have acknowledged it."""

    def watch(self, memory: Memory) -> None:
        memory("requests to nodes", lambda: len(self._open), None)

    def request(
        self, bus: PubSub, channel: str, message: Callable[[int], bytes]
    ) -> asyncio.Future[None]:
        """Publish `message(number)`. The future is done when all nodes that receive the message have
        acknowledged it, after WAIT_S, or immediately if the bus is down. If this node subscribes to the
        channel it must acknowledge as well, because Redis counts it."""
        number = next(self._numbers) & 0xFFFFFFFF
        future: asyncio.Future[None] = self._loop.create_future()
        self._open[number] = (future, None, 0)
        self._expiry.keep(number)
        if not bus.up:
            self.fail_all()
        bus.publish(channel, message(number), partial(self._received_by, number))
        return future

    def acknowledged(self, number: int) -> None:
        """Count one more acknowledgement of the request."""
        if number in self._open:
            future, nodes, acknowledged = self._open[number]
            self._note(number, future, nodes, acknowledged + 1)

    def fail_all(self) -> None:
        """Complete all requests now, because the bus is down and no node can be reached."""
        for number in tuple(self._open):
            self._close(number)

    def _received_by(self, number: int, nodes: int) -> None:
        if number in self._open:
            future, _, acknowledged = self._open[number]
            self._note(number, future, nodes, acknowledged)

    def _note(
        self, number: int, future: asyncio.Future[None], nodes: int | None, acknowledged: int
    ) -> None:
        self._open[number] = (future, nodes, acknowledged)
        if nodes is not None and acknowledged >= nodes:
            self._close(number)

    def _close(self, number: int) -> None:
        self._expiry.discard(number)
        request = self._open.pop(number, None)
        if request is not None and not request[0].done():
            request[0].set_result(None)
