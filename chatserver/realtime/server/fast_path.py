"""A fast path through a RealtimeServer: one namespace, whose clients get their events as they are parsed."""

from __future__ import annotations

import re
from typing import Any, Generic, Protocol, TypeVar

import socketio

from ..engine.packet import Malformed, ack, event
from ..engine.session import Session
from ..memory import Memory, unwatched
from .server import RealtimeServer

Refused = socketio.exceptions.ConnectionRefusedError
"""Refused(message, data): the client is refused, and receives both."""

_EVENT = re.compile(rb"2(\d{0,15})(?=\[)")
_BINARY = re.compile(rb"[56]\d{1,3}-(\d{0,15})(?=\[)")


class Connection:
    """A client in the one namespace. An application derives a class from it, which handles the client's events.

    Its methods must not wait.
    """

    __slots__ = ("rooms", "session", "sid", "user_id")

    def __init__(self, session: Session, sid: str, user_id: str) -> None:
        self.session = session
        self.sid = sid
        self.user_id = user_id
        self.rooms: set[str] = set()
        """The rooms whose packets the client receives."""

    def event(self, text: bytes, packet_id: int | None) -> None:
        """An event arrived. `text` starts like a JSON array and is not checked further. If there is a
        `packet_id`, `ack` must be called with it."""
        raise NotImplementedError

    def binary(self, text: bytes, packet_id: int | None) -> None:
        """An event with attachments arrived. The attachments are discarded."""
        raise NotImplementedError

    def emit(self, name: str, data: Any) -> None:
        self.session.emit(event(name, data))

    def ack(self, packet_id: int, data: Any) -> None:
        self.session.emit(ack(packet_id, data))


C = TypeVar("C", bound=Connection)


class Acceptor(Protocol[C]):
    """Accepts the clients of a server. Only `connecting` may wait."""

    async def connecting(self, session: Session, sid: str, environ: dict[str, Any], auth: Any) -> C:
        """Accept a client. Raises Refused."""

    def connected(self, connection: C) -> None:
        """The client has been accepted, and its CONNECT is sent."""

    def disconnected(self, connection: C) -> None:
        """The client has disconnected."""


def attach_acceptor(
    server: RealtimeServer, acceptor: Acceptor[C], memory: Memory = unwatched
) -> None:
    """Accept the clients of the server's one namespace with `acceptor`. Their events go to their connections as
    they are parsed, without a task, a queue, or decoding."""
    fast_path = _FastPath(server, acceptor)
    server.eio.deliver = fast_path.deliver
    server.eio.deliver_binary = fast_path.ignore
    server.admitted = fast_path.admitted
    server.on("connect", fast_path.connect)
    server.on("disconnect", fast_path.disconnect)
    fast_path.watch(memory)


class _FastPath(Generic[C]):
    """The functions that attach_acceptor puts into a server."""

    def __init__(self, server: RealtimeServer, acceptor: Acceptor[C]) -> None:
        self._acceptor = acceptor
        self._manager = server.manager
        self._eio = server.eio
        self._connections: dict[str, C] = {}

    def watch(self, memory: Memory) -> None:
        memory("connections", lambda: len(self._connections), None)

    def deliver(self, session: Session, body: bytes) -> None:
        """Handle one Socket.IO packet. Raises Malformed."""
        kind = body[:1]
        if kind == b"2":
            if (found := _EVENT.match(body)) is None:
                raise Malformed()
            if (connection := session.connection) is not None:
                digits = found.group(1)
                connection.event(body[found.end() :], int(digits) if digits else None)
            elif not session.introduced:
                raise Malformed()
        elif kind == b"0" or kind == b"1":
            session.introduced |= kind == b"0"
            try:
                session.hold(body.decode())
            except UnicodeDecodeError:
                raise Malformed() from None
        elif kind == b"5" or kind == b"6":
            if (found := _BINARY.match(body)) is None:
                raise Malformed()
            if (connection := session.connection) is not None:
                digits = found.group(1)
                connection.binary(body[found.end() :], int(digits) if digits else None)
        elif kind != b"3":  # acknowledgements are ignored: the fast path never requests any
            raise Malformed()

    def ignore(self, session: Session, data: bytes) -> None:
        """Discard the attachments of a packet that was refused."""

    async def connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        session = self._eio.sockets.get(self._manager.eio_sid_from_sid(sid, "/"))
        if session is None:
            raise Refused("gone")
        connection = await self._acceptor.connecting(session, sid, environ, auth)
        # The environ is kept as long as the client, and the request is its largest part.
        environ.pop("aiohttp.request", None)
        self._connections[sid] = session.connection = connection

    def admitted(self, session: Session, sid: str, namespace: str) -> None:
        self._acceptor.connected(self._connections[sid])

    async def disconnect(self, sid: str, reason: str) -> None:
        if (connection := self._connections.pop(sid, None)) is not None:
            connection.session.connection = None
            self._acceptor.disconnected(connection)
