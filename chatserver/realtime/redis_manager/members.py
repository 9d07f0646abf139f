"""Who is in which room, whatever node they are connected to.

Overridden of socketio 5.18.1's AsyncManager: pre_connect (which makes the ids), enter_room, leave_room,
close_room, can_disconnect and disconnect (which may concern other nodes), basic_enter_room and
basic_leave_room (which tell what is to be heard).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bus.subscriptions import Subscriptions, settled
from ..server.clients import Clients
from .names import new_sid, node_of, of_node, of_room
from .peers import Neighbours

Room = tuple[str, Any]
"""A namespace, and a room in it."""


class Members(Clients):
    node: str
    _others: Neighbours
    _hosted: Subscriptions[Room]

    def _requests(self) -> dict[bytes, Callable[..., None]]:
        """What other nodes ask for, by the letter of its kind."""
        return {
            b"i": self._hear_enter,
            b"o": self._hear_leave,
            b"c": self._hear_close,
            b"d": self._hear_disconnect,
        }

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        sid = new_sid(self.node)
        self.basic_enter_room(sid, namespace, None, eio_sid)
        self.basic_enter_room(sid, namespace, sid, eio_sid)
        self.pending_connect.setdefault(namespace, []).append(sid)
        await settled([self._hosted.subscribe((namespace, None))])
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
            await settled([self._hosted.subscribe((namespace, room))])

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

    def _hear_enter(self, node: bytes, request: int, namespace: str, sid: str, room: Any) -> None:
        if self.eio_sid_from_sid(sid, namespace) is None:
            self._others.done(node, request)
            return
        self.basic_enter_room(sid, namespace, room)
        heard = self._hosted.subscribe((namespace, room))
        if heard.done():
            self._others.done(node, request)
        else:
            heard.add_done_callback(lambda _: self._others.done(node, request))

    def _hear_leave(self, node: bytes, request: int, namespace: str, sid: str, room: Any) -> None:
        self.basic_leave_room(sid, namespace, room)
        self._others.done(node, request)

    def _hear_close(self, node: bytes, request: int, namespace: str, room: Any) -> None:
        self.basic_close_room(room, namespace)
        self._others.done(node, request)

    def _hear_disconnect(self, node: bytes, request: int, namespace: str, sid: str) -> None:
        self._others.begin(self._disconnect(node, request, namespace, sid))

    async def _disconnect(self, node: bytes, request: int, namespace: str, sid: str) -> None:
        await self.server.disconnect(sid, namespace, ignore_queue=True)
        self._others.done(node, request)

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

    def _elsewhere(self, sid: str) -> str | None:
        node = node_of(sid)
        return None if node == self.node else node
