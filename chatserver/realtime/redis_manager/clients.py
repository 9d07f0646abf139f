"""The client manager of a node among several.

A node hears the channels of the rooms that have members on it (everyone in a namespace is a room, too)
and one of its own, on which it is told what concerns single clients: their ids begin with its id.

| channel | what is said on it |
|---|---|
| `[namespace, room]` | what is emitted to the room, and that it is closed |
| `n:<node>` | what is emitted to a client there, answers, and what is to be done with a client |

Overridden of socketio 5.18.1's AsyncManager: initialize, emit, and what members.py names.
"""

from __future__ import annotations

import inspect
import itertools
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from socketio import packet

from ..bus import Address, Bus
from ..bus.subscriptions import KEEP_FOR_S, Subscriptions
from ..engine.packet import Packet
from ..engine.session import Session
from ..server.packet_validation import ValidatedPacket
from .callbacks import Callbacks
from .envelope import NODE
from .members import Members
from .names import node_of, of_node, of_room
from .peers import Neighbours

CALLBACK_S = 60.0
"""As long as `call` waits."""
NODES = 1000
"""Of so many nodes the last emit to several rooms is remembered."""


class SpreadClients(Members):
    """A client manager for all nodes with the same Redis and prefix. What the bus loses is lost.

    A server that is attached to an application starts and closes it; otherwise `start` and `close`
    are to be called, also by a process without a server, which may emit and do all the rest.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "sio:",
        callback_timeout: float = CALLBACK_S,
        keep_for_s: float = KEEP_FOR_S,
        missed: Callable[[], None] = lambda: None,
    ) -> None:
        """`url`: see the table in README.md. `prefix` keeps applications in one Redis apart.

        `callback_timeout`: seconds after which what a client of another node answers is ignored.
        `keep_for_s`: seconds that a room is heard when its last member here has gone.
        `missed()`: something may have been said elsewhere that was not heard here; called whenever
        the bus comes up, at first too, and when another node could not publish for a while.

        Raises BadAddress.
        """
        super().__init__()
        Address.parse(url)
        self.node = secrets.token_hex(NODE // 2)
        self._join = (url, prefix)
        self._keep_for_s = keep_for_s
        self._missed = missed
        self._callbacks = Callbacks(callback_timeout)
        self._several = itertools.count(1)
        self._last_of: dict[bytes, int] = {}
        """Of each node its last emit to several rooms: it comes once for each that is heard here."""

    async def start(self) -> None:
        """Join the others; returns after some seconds at most, joined or not."""
        kinds: dict[bytes, Callable[..., None]] = {
            b"e": self._hear_emit,
            b"a": self._hear_answer,
            **self._requests(),
        }
        self._others = Neighbours(self.node, *self._join, kinds, b"ea", self._missed)
        self._hosted = Subscriptions(
            self.bus, lambda room: of_room(*room), self._has_members, keep_for_s=self._keep_for_s
        )
        await self._others.join()

    async def close(self) -> None:
        """Let what was emitted last go out, and leave."""
        await self._others.leave()
        self._callbacks.forget()

    @property
    def bus(self) -> Bus:
        """Once started; by its `watch` it tells what operators want to know."""
        return self._others.bus

    def initialize(self) -> None:
        if not hasattr(self, "_others"):
            raise RuntimeError("Attach the server to an application, or `await manager.start()`.")

    # --- what is emitted ------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Any = None,
        skip_sid: Any = None,
        callback: Callable[..., Any] | None = None,
        to: Any = None,
        ignore_queue: bool = False,
        **kwargs: Any,
    ) -> None:
        """Nothing waits, for Redis neither. What one node emits is heard in the order in which it was.

        `callback` is called for each client that answers within the time-out: those here, and those
        elsewhere. It is not called when none does.
        """
        namespace, room = namespace or "/", to or room
        skip = skip_sid if isinstance(skip_sid, list) else [skip_sid]
        channels = () if ignore_queue else self._channels(namespace, room)
        if not channels:
            await super().emit(event, data, namespace, room, skip, callback)
            return
        number = None
        if callback is not None:
            number = self._callbacks.expect(callback, once=node_of(room) is not None)
        packets = self._packets(event, data, namespace, number)
        several = next(self._several) if len(channels) > 1 else 0
        others = [one for one in skip if one]
        message = self._others.message(
            b"e", namespace, room, others, number, several, packets=packets
        )
        if callback is None:
            self._send(namespace, self._receivers(namespace, room, skip), packets)
        else:
            await super().emit(event, data, namespace, room, skip, callback)
        for channel in channels:
            self.bus.publish(channel, message)

    def _channels(self, namespace: str, room: Any) -> list[str]:
        """Where others hear of it."""
        rooms = room if isinstance(room, list | tuple) else [room]
        found = {
            of_node(node) if (node := node_of(one)) else of_room(namespace, one): None
            for one in rooms
        }
        found.pop(of_node(self.node), None)
        return list(found)

    def _hear_emit(
        self,
        node: bytes,
        namespace: str,
        room: Any,
        skip: list[str],
        number: int | None,
        several: int,
        packets: list[Packet],
    ) -> None:
        if several and self._comes_again(node, several):
            return
        receivers = self._receivers(namespace, room, skip)
        if number is not None:
            for sid, _ in receivers:
                callbacks = self.callbacks.setdefault(sid, {0: itertools.count(1)})
                callbacks[number] = partial(self._return, node, namespace, number)
        self._send(namespace, receivers, packets)

    def _comes_again(self, node: bytes, several: int) -> bool:
        again = self._last_of.pop(node, 0) == several
        self._last_of[node] = several
        if len(self._last_of) > NODES:
            del self._last_of[next(iter(self._last_of))]
        return again

    # --- what clients answer --------------------------------------------------------------------

    def _return(self, node: bytes, namespace: str, number: int, *data: Any) -> None:
        packets = self._encoded(packet.ACK, namespace, list(data), number)
        self._others.say(of_node(node.decode()), b"a", number, packets=packets)

    def _hear_answer(self, node: bytes, number: int, packets: list[Packet]) -> None:
        callback = self._callbacks.answered(number)
        if callback is None:
            return
        first, *attachments = packets
        answer = self._packet_class(
            encoded_packet=first.payload if first.binary else first.payload.decode()
        )
        for one in attachments:
            answer.add_attachment(one.payload)
        self._others.begin(_call(callback, answer.data))

    @property
    def _packet_class(self) -> Any:
        return ValidatedPacket if self.server is None else self.server.packet_class

    @property
    def _sockets(self) -> dict[str, Session]:
        return {} if self.server is None else self.server.eio.sockets


async def _call(callback: Callable[..., Any], data: list[Any]) -> None:
    result = callback(*data)
    if inspect.isawaitable(result):
        await result
