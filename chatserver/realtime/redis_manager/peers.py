"""The other nodes: sends messages and requests to them, and receives theirs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ..bus import Bus
from ..bus.acknowledgements import Acknowledgements
from ..engine.packet import Packet
from . import names
from .envelope import NODE, cut, pack, unpack

log = logging.getLogger(__name__)

DONE = b"y"


class PeerNodes:
    """`kinds` has the handler of each kind of message, by the kind's letter. A handler is called with the node
    that sent the message and with the arguments. In the kinds of `carrying`, the last argument is a list of
    packets."""

    def __init__(
        self,
        node: str,
        url: str,
        prefix: str,
        kinds: dict[bytes, Callable[..., None]],
        carrying: bytes,
        missed: Callable[[], None],
    ) -> None:
        """Requires a running event loop. Raises BadAddress."""
        self._node, self._me = node, node.encode()
        self._kinds = {**kinds, DONE: self._on_done}
        self._carrying = carrying
        self._acknowledgements = Acknowledgements()
        self._tasks: set[asyncio.Task[None]] = set()
        self.bus = Bus(
            url,
            prefix=prefix,
            deliver=self._receive,
            missed=missed,
            lost=self._acknowledgements.fail_all,
        )

    async def join(self) -> None:
        self.bus.subscribe(names.of_node(self._node))
        await self.bus.start()

    async def leave(self) -> None:
        await self.bus.close()
        self._acknowledgements.fail_all()
        for task in self._tasks:
            task.cancel()

    def say(
        self, channel: str, kind: bytes, *arguments: Any, packets: list[Packet] | None = None
    ) -> None:
        self.bus.publish(channel, pack(self._me, kind, *arguments, packets=packets))

    def message(self, kind: bytes, *arguments: Any, packets: list[Packet]) -> bytes:
        """Returns a message that can be published on several channels."""
        return pack(self._me, kind, *arguments, packets=packets)

    async def ask(self, channel: str, kind: bytes, *arguments: Any) -> None:
        """Return when all nodes on the channel have called `done`, after a second, or immediately while Redis
        is down. Their handlers get the number of the request before the arguments."""
        done = self._acknowledgements.request(
            self.bus, channel, lambda request: pack(self._me, kind, request, *arguments)
        )
        await asyncio.wait([done])

    def done(self, node: bytes, request: int) -> None:
        self.say(names.of_node(node.decode()), DONE, request)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task for work that a message requests."""
        task = asyncio.get_running_loop().create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _receive(self, channel: str, message: bytes) -> None:
        node, kind = message[:NODE], message[NODE : NODE + 1]
        if node == self._me and kind in self._carrying:
            # Redis delivers this node's own messages, too.
            return
        arguments, body = unpack(message)
        if node == self._me:
            # Our own request to a room that has members here: this node has carried it out already.
            self._acknowledgements.acknowledged(arguments[0])
            return
        if kind in self._carrying:
            arguments[-1] = cut(arguments[-1], body)
        self._kinds[kind](node, *arguments)

    def _on_done(self, node: bytes, request: int) -> None:
        self._acknowledgements.acknowledged(request)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # nothing awaits this task, so the error is logged here or nowhere
        log.exception("a message from another node could not be handled")
