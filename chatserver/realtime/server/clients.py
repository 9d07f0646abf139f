"""The clients of each namespace and the rooms that they are in.

Overrides of socketio 5.18.1's AsyncManager: emit (which sends all clients the same frame), connect (which
sends packets for a connecting client after its CONNECT), basic_enter_room, basic_leave_room,
basic_disconnect and get_rooms (the originals searched the rooms of all clients).
"""

from __future__ import annotations

from typing import Any

import socketio
from socketio import packet as sio_packet

from ..engine.packet import Packet
from ..engine.session import Session
from ..memory import Memory


class Clients(socketio.AsyncManager):
    def __init__(self) -> None:
        super().__init__()
        self._rooms_of: dict[str, set[Any]] = {}
        """By client: its rooms, without the room of all clients and the client's own room."""
        self._held: dict[str, list[Packet]] = {}

    def watch(self, memory: Memory) -> None:
        memory("clients in rooms", lambda: len(self._rooms_of) + len(self._held), None)

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
        """Emit without waiting. A client that is still connecting receives the event once it is accepted."""
        skip = skip_sid if isinstance(skip_sid, list) else [skip_sid]
        receivers = self._receivers(namespace, to or room, skip)
        if callback is not None:
            for receiver in receivers:
                number = self._generate_ack_id(receiver[0], callback)
                self._send(namespace, [receiver], self._packets(event, data, namespace, number))
        elif receivers:
            self._send(namespace, receivers, self._packets(event, data, namespace))

    def _receivers(self, namespace: str, room: Any, skip: list[Any]) -> list[tuple[str, Session]]:
        sockets = self._sockets
        return [
            (sid, session)
            for sid, eio_sid in self.get_participants(namespace, room)
            if sid not in skip and (session := sockets.get(eio_sid)) is not None
        ]

    def _send(
        self, namespace: str, receivers: list[tuple[str, Session]], packets: list[Packet]
    ) -> None:
        coming = frozenset(self.pending_connect.get(namespace, ()))
        for sid, session in receivers:
            if sid in coming:
                self._held.setdefault(sid, []).extend(packets)
            else:
                for packet in packets:
                    session.emit(packet)

    def _packets(
        self, event: str, data: Any, namespace: str, number: int | None = None
    ) -> list[Packet]:
        arguments = data if isinstance(data, tuple) else () if data is None else (data,)
        return self._encoded(sio_packet.EVENT, namespace, [event, *arguments], number)

    def _encoded(
        self, kind: int, namespace: str, data: list[Any], number: int | None
    ) -> list[Packet]:
        encoded = self._packet_class(kind, namespace=namespace, data=data, id=number).encode()
        parts = encoded if isinstance(encoded, list) else [encoded]
        return [
            Packet(part.encode()) if isinstance(part, str) else Packet(bytes(part), binary=True)
            for part in parts
        ]

    @property
    def _packet_class(self) -> Any:
        return self.server.packet_class

    @property
    def _sockets(self) -> dict[str, Session]:
        return self.server.eio.sockets

    async def connect(self, sid: str, namespace: str) -> str:
        sid = await super().connect(sid, namespace)
        session = self.server.eio.sockets.get(self.eio_sid_from_sid(sid, namespace))
        held = self._held.pop(sid, ())
        if session is not None and held:
            if session.upgraded and session.websocket is not None:
                session.websocket.flush_apart()
            for packet in held:
                session.emit(packet)
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
