"""Who is connected to which namespace, and in which rooms.

Overridden of socketio 5.18.1's AsyncManager: emit (one frame for all), connect (what was said to a
client while it came in follows its CONNECT), basic_enter_room, basic_leave_room, basic_disconnect
and get_rooms (which looked through the rooms of everybody).
"""

from __future__ import annotations

from typing import Any

import socketio
from socketio import packet

from .packet import Packet


class Clients(socketio.AsyncManager):
    def __init__(self) -> None:
        super().__init__()
        self._rooms_of: dict[str, set[Any]] = {}
        """But the two that everyone is in: of all, and of itself."""
        self._held: dict[str, list[Packet]] = {}

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Any = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """Nothing waits; whoever is only coming in gets it when let in, and else not at all."""
        skip = skip_sid if isinstance(skip_sid, list) else [skip_sid]
        coming = frozenset(self.pending_connect.get(namespace, ()))
        sockets = self.server.eio.sockets
        packets: list[Packet] | None = None
        for sid, eio_sid in self.get_participants(namespace, to or room):
            session = sockets.get(eio_sid)
            if sid in skip or session is None:
                continue
            if callback is not None:
                number = self._generate_ack_id(sid, callback)
                packets = self._packets(event, data, namespace, number)
            elif packets is None:
                packets = self._packets(event, data, namespace)
            if sid in coming:
                self._held.setdefault(sid, []).extend(packets)
                continue
            for one in packets:
                session.emit(one)

    def _packets(
        self, event: str, data: Any, namespace: str, number: int | None = None
    ) -> list[Packet]:
        arguments = data if isinstance(data, tuple) else () if data is None else (data,)
        encoded = self.server.packet_class(
            packet.EVENT, namespace=namespace, data=[event, *arguments], id=number
        ).encode()
        parts = encoded if isinstance(encoded, list) else [encoded]
        return [
            Packet(one.encode()) if isinstance(one, str) else Packet(bytes(one), binary=True)
            for one in parts
        ]

    async def connect(self, sid: str, namespace: str) -> str:
        sid = await super().connect(sid, namespace)
        session = self.server.eio.sockets.get(self.eio_sid_from_sid(sid, namespace))
        held = self._held.pop(sid, ())
        if session is not None and held:
            if session.upgraded:
                self.server.eio.write_apart(session)
            for one in held:
                session.emit(one)
        return sid

    def basic_enter_room(
        self, sid: str, namespace: str, room: Any, eio_sid: str | None = None
    ) -> None:
        super().basic_enter_room(sid, namespace, room, eio_sid)
        if room is not None and room != sid:
            self._rooms_of.setdefault(sid, set()).add(room)

    def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None:
        super().basic_leave_room(sid, namespace, room)
        rooms = self._rooms_of.get(sid)
        if rooms is not None:
            rooms.discard(room)
            if not rooms:
                del self._rooms_of[sid]

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        for room in (*self._rooms_of.get(sid, ()), None, sid):
            self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        self._held.pop(sid, None)
        for waiting in (self.pending_connect, self.pending_disconnect):
            if sid in waiting.get(namespace, ()):
                waiting[namespace].remove(sid)
                if not waiting[namespace]:
                    del waiting[namespace]

    def get_rooms(self, sid: str, namespace: str) -> list[Any]:
        if self.eio_sid_from_sid(sid, namespace) is None:
            return []
        return [sid, *self._rooms_of.get(sid, ())]
