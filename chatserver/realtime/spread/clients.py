"""The client manager of a node among several.

A node hears the channels of the rooms that have members on it (everyone in a namespace is a room, too)
and one of its own, on which it is told what concerns single clients: their ids begin with its id.

| channel | what is said on it |
|---|---|
| `[namespace, room]` | what is emitted to the room, and that it is closed |
| `n:<node>` | what is emitted to a client there, answers, and what is to be done with a client |

Overridden of socketio 5.18.1's AsyncManager: initialize, pre_connect (which makes the ids), emit,
enter_room, leave_room, close_room, can_disconnect and disconnect (which may concern other nodes),
basic_enter_room and basic_leave_room (which tell what is to be heard).
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
from ..clients import Clients
from ..packet import Packet
from ..session import Session
from ..strict import StrictPacket
from ..subscriptions import LINGER_S, Subscriptions, settled
from .callbacks import Callbacks
from .envelope import NODE
from .names import new_sid, node_of, of_node, of_room
from .neighbours import Neighbours

Room = tuple[str, Any]
"""A namespace, and a room in it."""

CALLBACK_S = 60.0
"""As long as `call` waits."""
NODES = 1000
"""Of so many nodes the last emit to several rooms is remembered."""


class SpreadClients(Clients):
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
        linger: float = LINGER_S,
        missed: Callable[[], None] = lambda: None,
    ) -> None:
        """`url`: see the table in README.md. `prefix` keeps applications in one Redis apart.

        `callback_timeout`: seconds after which what a client of another node answers is ignored.
        `linger`: seconds that a room is heard when its last member here has gone.
        `missed()`: something may have been said elsewhere that was not heard here; called whenever
        the bus comes up, at first too, and when another node could not publish for a while.

        Raises BadAddress.
        """
        super().__init__()
        Address.parse(url)
        self.node = secrets.token_hex(NODE // 2)
        self._join = (url, prefix)
        self._linger = linger
        self._missed = missed
        self._others: Neighbours
        self._hosted: Subscriptions[Room]
        self._callbacks = Callbacks(callback_timeout)
        self._several = itertools.count(1)
        self._last_of: dict[bytes, int] = {}
        """Of each node its last emit to several rooms: it comes once for each that is heard here."""

    async def start(self) -> None:
        """Join the others; returns after some seconds at most, joined or not."""
        kinds: dict[bytes, Callable[..., None]] = {
            b"e": self._hear_emit,
            b"a": self._hear_answer,
            b"i": self._hear_enter,
            b"o": self._hear_leave,
            b"c": self._hear_close,
            b"d": self._hear_disconnect,
        }
        self._others = Neighbours(self.node, *self._join, kinds, b"ea", self._missed)
        self._hosted = Subscriptions(
            self.bus, lambda room: of_room(*room), self._has_members, linger=self._linger
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

    # --- clients --------------------------------------------------------------------------------

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        sid = new_sid(self.node)
        self.basic_enter_room(sid, namespace, None, eio_sid)
        self.basic_enter_room(sid, namespace, sid, eio_sid)
        self.pending_connect.setdefault(namespace, []).append(sid)
        await settled([self._hosted.hear((namespace, None))])
        if eio_sid not in self.server.environ:  # it went meanwhile
            self.basic_disconnect(sid, namespace)
            return None
        return sid

    async def enter_room(
        self, sid: str, namespace: str, room: Any, eio_sid: str | None = None
    ) -> None:
        """Returns when what is emitted to the room from then on is heard, or after a second; at once
        while Redis is away. So do the others, when it is done where the client is."""
        if (node := self._elsewhere(sid)) is not None:
            if node_of(room):
                raise ValueError("cannot enter a sid room")
            await self._others.ask(of_node(node), b"i", namespace, sid, room)
        else:
            self.basic_enter_room(sid, namespace, room, eio_sid)
            await settled([self._hosted.hear((namespace, room))])

    async def leave_room(self, sid: str, namespace: str, room: Any) -> None:
        if (node := self._elsewhere(sid)) is not None:
            await self._others.ask(of_node(node), b"o", namespace, sid, room)
        else:
            self.basic_leave_room(sid, namespace, room)

    async def close_room(self, room: Any, namespace: str | None = None) -> None:
        namespace = namespace or "/"
        if node_of(room):
            raise ValueError("cannot close a sid room")
        self.basic_close_room(room, namespace)
        await self._others.ask(of_room(namespace, room), b"c", namespace, room)

    async def can_disconnect(self, sid: str, namespace: str) -> bool:
        if self._elsewhere(sid) is None:
            return bool(await super().can_disconnect(sid, namespace))
        await self.disconnect(sid, namespace)
        return False

    async def disconnect(self, sid: str, namespace: str | None = None, **kwargs: Any) -> None:
        namespace = namespace or "/"
        if (node := self._elsewhere(sid)) is None:
            self.basic_disconnect(sid, namespace)
        elif not kwargs.get("ignore_queue"):
            await self._others.ask(of_node(node), b"d", namespace, sid)

    def _hear_enter(self, node: bytes, question: int, namespace: str, sid: str, room: Any) -> None:
        if self.eio_sid_from_sid(sid, namespace) is None:
            self._others.done(node, question)
            return
        self.basic_enter_room(sid, namespace, room)
        heard = self._hosted.hear((namespace, room))
        if heard.done():
            self._others.done(node, question)
        else:
            heard.add_done_callback(lambda _: self._others.done(node, question))

    def _hear_leave(self, node: bytes, question: int, namespace: str, sid: str, room: Any) -> None:
        self.basic_leave_room(sid, namespace, room)
        self._others.done(node, question)

    def _hear_close(self, node: bytes, question: int, namespace: str, room: Any) -> None:
        self.basic_close_room(room, namespace)
        self._others.done(node, question)

    def _hear_disconnect(self, node: bytes, question: int, namespace: str, sid: str) -> None:
        self._others.begin(self._disconnect(node, question, namespace, sid))

    async def _disconnect(self, node: bytes, question: int, namespace: str, sid: str) -> None:
        await self.server.disconnect(sid, namespace, ignore_queue=True)
        self._others.done(node, question)

    def basic_enter_room(
        self, sid: str, namespace: str, room: Any, eio_sid: str | None = None
    ) -> None:
        if room == sid:
            super().basic_enter_room(sid, namespace, room, eio_sid)
            return
        if node_of(room):
            raise ValueError("cannot enter a sid room")
        of_room(namespace, room)
        super().basic_enter_room(sid, namespace, room, eio_sid)
        self._hosted.hear((namespace, room))

    def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None:
        super().basic_leave_room(sid, namespace, room)
        self._hosted.keep((namespace, room))

    def _has_members(self, room: Room) -> bool:
        return bool(self.rooms.get(room[0], {}).get(room[1]))

    def _elsewhere(self, sid: str) -> str | None:
        node = node_of(sid)
        return None if node == self.node else node

    @property
    def _packet_class(self) -> Any:
        return StrictPacket if self.server is None else self.server.packet_class

    @property
    def _sockets(self) -> dict[str, Session]:
        return {} if self.server is None else self.server.eio.sockets


async def _call(callback: Callable[..., Any], data: list[Any]) -> None:
    result = callback(*data)
    if inspect.isawaitable(result):
        await result
