"""The rooms of all clients, on any node.

Overrides of socketio 5.18.1's AsyncManager: pre_connect (which creates the ids), enter_room, leave_room,
close_room, can_disconnect and disconnect (which may concern other nodes), basic_enter_room and
basic_leave_room (which subscribe to channels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bus.subscriptions import Subscriptions, settled
from ..server.clients import Clients
from .names import new_sid, node_of, of_node, of_room
from .peers import PeerNodes

Room = tuple[str, Any]
"""A namespace and a room in it."""


class RoomMembership(Clients):
    """The rooms of the clients of all nodes. Changes for a client of another node are requested from it."""

    node: str
    _peers: PeerNodes
    _hosted: Subscriptions[Room]

    def _requests(self) -> dict[bytes, Callable[..., None]]:
        """Returns the handlers of requests from other nodes, by the kind's letter."""
        return {
            b"i": self._on_enter,
            b"o": self._on_leave,
            b"c": self._on_close,
            b"d": self._on_disconnect,
        }

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        sid = new_sid(self.node)
        self.basic_enter_room(sid, namespace, None, eio_sid)
        self.basic_enter_room(sid, namespace, sid, eio_sid)
        self.pending_connect.setdefault(namespace, []).append(sid)
        await settled([self._hosted.subscribe((namespace, None))])
        if eio_sid not in self.server.environ:  # the client has disconnected
            self.basic_disconnect(sid, namespace)
            return None
        return sid

    async def enter_room(
        self, sid: str, namespace: str, room: Any, eio_sid: str | None = None
    ) -> None:
        """Return when everything that is emitted to the room from then on reaches the client, after a second,
        or immediately while Redis is down. The other methods return when the client's node is done."""
        if (node := self._remote_node(sid)) is not None:
            if node_of(room):
                raise ValueError("cannot enter a sid room")
            await self._peers.ask(of_node(node), b"i", namespace, sid, room)
        else:
            self.basic_enter_room(sid, namespace, room, eio_sid)
            await settled([self._hosted.subscribe((namespace, room))])

    async def leave_room(self, sid: str, namespace: str, room: Any) -> None:
        if (node := self._remote_node(sid)) is not None:
            await self._peers.ask(of_node(node), b"o", namespace, sid, room)
        else:
            self.basic_leave_room(sid, namespace, room)

    async def close_room(self, room: Any, namespace: str | None = None) -> None:
        namespace = namespace or "/"
        if node_of(room):
            raise ValueError("cannot close a sid room")
        self.basic_close_room(room, namespace)
        await self._peers.ask(of_room(namespace, room), b"c", namespace, room)

    async def can_disconnect(self, sid: str, namespace: str) -> bool:
        if self._remote_node(sid) is None:
            return bool(await super().can_disconnect(sid, namespace))
        await self.disconnect(sid, namespace)
        return False

    async def disconnect(self, sid: str, namespace: str | None = None, **kwargs: Any) -> None:
        namespace = namespace or "/"
        if (node := self._remote_node(sid)) is None:
            self.basic_disconnect(sid, namespace)
        elif not kwargs.get("ignore_queue"):
            await self._peers.ask(of_node(node), b"d", namespace, sid)

    def _on_enter(self, node: bytes, request: int, namespace: str, sid: str, room: Any) -> None:
        if self.eio_sid_from_sid(sid, namespace) is None:
            self._peers.done(node, request)
            return
        self.basic_enter_room(sid, namespace, room)
        subscribed = self._hosted.subscribe((namespace, room))
        if subscribed.done():
            self._peers.done(node, request)
        else:
            subscribed.add_done_callback(lambda _: self._peers.done(node, request))

    def _on_leave(self, node: bytes, request: int, namespace: str, sid: str, room: Any) -> None:
        self.basic_leave_room(sid, namespace, room)
        self._peers.done(node, request)

    def _on_close(self, node: bytes, request: int, namespace: str, room: Any) -> None:
        self.basic_close_room(room, namespace)
        self._peers.done(node, request)

    def _on_disconnect(self, node: bytes, request: int, namespace: str, sid: str) -> None:
        self._peers.begin(self._disconnect(node, request, namespace, sid))

    async def _disconnect(self, node: bytes, request: int, namespace: str, sid: str) -> None:
        await self.server.disconnect(sid, namespace, ignore_queue=True)
        self._peers.done(node, request)

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
        self._hosted.subscribe((namespace, room))

    def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None:
        super().basic_leave_room(sid, namespace, room)
        self._hosted.keep((namespace, room))

    def _has_members(self, room: Room) -> bool:
        return bool(self.rooms.get(room[0], {}).get(room[1]))

    def _remote_node(self, sid: str) -> str | None:
        node = node_of(sid)
        return None if node == self.node else node
