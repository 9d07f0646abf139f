"""The client manager of one node among several. README.md lists its promises.

A node subscribes to the channels of the rooms that have members on it. All clients of a namespace are a room,
too. The node also has a channel of its own for messages about single clients, whose ids start with its id.

| channel | messages |
|---|---|
| `[namespace, room]` | packets for the room, and requests to close it |
| `n:<node>` | packets for one client there, acknowledgements of clients, and requests about a client there |

Overrides of socketio 5.18.1's AsyncManager: initialize, emit, and those that room_membership.py lists.
"""

from __future__ import annotations

import inspect
import itertools
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from socketio import packet as sio_packet

from ..bus import Address, Bus
from ..bus.subscriptions import KEEP_FOR_S, Subscriptions
from ..engine.packet import Packet
from ..engine.session import Session
from ..server.packet_validation import ValidatedPacket
from .callbacks import Callbacks
from .envelope import NODE
from .names import node_of, of_node, of_room
from .peers import PeerNodes
from .room_membership import RoomMembership

CALLBACK_S = 60.0
"""The default time-out of `call`."""
NODES = 1000
"""The most nodes whose last emit to several rooms is remembered."""


class RedisClientManager(RoomMembership):
    """Joins all nodes with the same Redis and prefix into one server. Messages that the bus loses are lost.

    A server that is attached to an application starts and closes its manager. A process without a server
    calls `start` and `close` itself, and can then use all other methods.
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
        """`url`: see the table in ../README.md. `prefix` separates applications that share one Redis.

        `callback_timeout`: seconds after which the acknowledgement of a client of another node is ignored.
        `keep_for_s`: seconds that the channel of a room stays subscribed after its last member here left.
        `missed()` is called when this node may have missed something: each time the bus comes up, the first
        time included, and when another node could not publish for a while.

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
        """By node: the number of its last emit to several rooms. The message arrives once for each of these
        rooms that has members here."""

    async def start(self) -> None:
        """Connect to the other nodes. Returns within a few seconds, connected or not."""
        kinds: dict[bytes, Callable[..., None]] = {
            b"e": self._on_emit,
            b"a": self._on_answer,
            **self._requests(),
        }
        self._peers = PeerNodes(self.node, *self._join, kinds, b"ea", self._missed)
        self._hosted = Subscriptions(
            self.bus, lambda room: of_room(*room), self._has_members, keep_for_s=self._keep_for_s
        )
        await self._peers.join()

    async def close(self) -> None:
        """Send what is still unsent, and disconnect from the other nodes."""
        await self._peers.leave()
        self._callbacks.forget()

    @property
    def bus(self) -> Bus:
        """The bus, once the manager is started. Its `watch` registers metrics."""
        return self._peers.bus

    def initialize(self) -> None:
        if not hasattr(self, "_peers"):
            raise RuntimeError("Attach the server to an application, or `await manager.start()`.")

    # --- emitting -------------------------------------------------------------------------------

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
        """Emit without waiting for clients or Redis. Clients receive the events of one node in order.

        `callback` is called for each client, on any node, that acknowledges within the time-out. It is never
        called if no client does.
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
        skipped = [sid for sid in skip if sid]
        message = self._peers.message(
            b"e", namespace, room, skipped, number, several, packets=packets
        )
        if callback is None:
            self._send(namespace, self._receivers(namespace, room, skip), packets)
        else:
            await super().emit(event, data, namespace, room, skip, callback)
        for channel in channels:
            self.bus.publish(channel, message)

    def _channels(self, namespace: str, room: Any) -> list[str]:
        """Returns the channels to publish on for other nodes."""
        rooms = room if isinstance(room, list | tuple) else [room]
        found = {
            of_node(node) if (node := node_of(name)) else of_room(namespace, name): None
            for name in rooms
        }
        found.pop(of_node(self.node), None)
        return list(found)

    def _on_emit(
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

    # --- acknowledgements of clients ------------------------------------------------------------

    def _return(self, node: bytes, namespace: str, number: int, *data: Any) -> None:
        packets = self._encoded(sio_packet.ACK, namespace, list(data), number)
        self._peers.say(of_node(node.decode()), b"a", number, packets=packets)

    def _on_answer(self, node: bytes, number: int, packets: list[Packet]) -> None:
        callback = self._callbacks.answered(number)
        if callback is None:
            return
        first, *attachments = packets
        answer = self._packet_class(
            encoded_packet=first.payload if first.binary else first.payload.decode()
        )
        for attachment in attachments:
            answer.add_attachment(attachment.payload)
        self._peers.begin(_call(callback, answer.data))

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
