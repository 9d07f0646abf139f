"""The Socket.IO server: socketio.AsyncServer with its hot paths replaced.

Overrides of socketio 5.18.1's AsyncServer: _handle_eio_connect, _handle_eio_message and
_handle_eio_disconnect (which end sessions that send an invalid packet, or are in no namespace for too long),
_handle_connect, _handle_disconnect, disconnect, attach and _engineio_server_class.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, runtime_checkable

import socketio
from aiohttp import web
from socketio import packet as sio_packet

from ..engine.engine import EngineServer
from ..engine.packet import Malformed
from ..engine.session import Session
from ..memory import Memory
from .clients import Clients
from .packet_validation import ValidatedPacket, is_valid

log = logging.getLogger(__name__)

CONNECT_S = 45.0


@runtime_checkable
class Startable(Protocol):
    """A client manager with connections of its own, which open and close with the application."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class RealtimeServer(socketio.AsyncServer):
    """A socketio.AsyncServer for aiohttp, with all its options and methods. Additional options:

    `connect_timeout`: seconds that a client may be in no namespace, at first or after it left all;
    all others: see EngineServer.
    """

    eio: EngineServer

    def __init__(
        self, client_manager: Any = None, *, connect_timeout: float = CONNECT_S, **options: Any
    ) -> None:
        self.connect_timeout = connect_timeout
        self.admitted: Callable[[Session, str, str], None] | None = None
        """A hook for a fast path: called with session, sid and namespace after a client's CONNECT is sent."""
        self._outside: dict[str, asyncio.TimerHandle] = {}
        super().__init__(
            client_manager or Clients(),
            **{"async_mode": "aiohttp", "serializer": ValidatedPacket, **options},
        )

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    def attach(self, app: web.Application, socketio_path: str = "socket.io") -> None:
        """As the original. In addition, a client manager that is Startable is started before the
        application's own start, and closed after all clients have disconnected."""
        super().attach(app, socketio_path)
        manager = self.manager

        async def running(_: web.Application) -> AsyncIterator[None]:
            await manager.start()
            yield
            await manager.close()

        if isinstance(manager, Startable):
            app.cleanup_ctx.append(running)

    async def drain(self, seconds: float) -> None:
        """See EngineServer.drain."""
        await self.eio.drain(seconds)

    async def empty(self, seconds: float) -> None:
        """See EngineServer.empty."""
        await self.eio.empty(seconds)

    def watch(self, memory: Memory) -> None:
        self.eio.watch(memory)
        if isinstance(self.manager, Clients):
            self.manager.watch(memory)
        memory("clients outside every namespace", lambda: len(self._outside), None)
        memory("clients", lambda: len(self.environ) + len(self._binary_packet), None)

    # --- sessions -----------------------------------------------------------------------------------

    async def _handle_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> None:
        await super()._handle_eio_connect(eio_sid, environ)
        self._is_outside(eio_sid)

    async def _handle_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        self._is_inside(eio_sid)
        await super()._handle_eio_disconnect(eio_sid, reason)
        self._binary_packet.pop(eio_sid, None)

    def _is_outside(self, eio_sid: str) -> None:
        self._outside[eio_sid] = asyncio.get_running_loop().call_later(
            self.connect_timeout, self._send_away, eio_sid
        )

    def _is_inside(self, eio_sid: str) -> None:
        if timer := self._outside.pop(eio_sid, None):
            timer.cancel()

    def _send_away(self, eio_sid: str) -> None:
        self._outside.pop(eio_sid, None)
        if (session := self.eio.sockets.get(eio_sid)) is not None:
            self.eio.drop(session, self.reason.SERVER_DISCONNECT)

    def _left(self, eio_sid: str | None) -> None:
        session = self._present(eio_sid or "")
        if session is None or session.sid in self._outside:
            return
        namespaces = tuple(self.manager.get_namespaces())
        if not any(self.manager.sid_from_eio_sid(eio_sid, namespace) for namespace in namespaces):
            self._is_outside(session.sid)

    def _present(self, eio_sid: str) -> Session | None:
        session = self.eio.sockets.get(eio_sid)
        return session if session is not None and not session.closing else None

    # --- packets ------------------------------------------------------------------------------------

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        session = self._present(eio_sid)
        if session is None:
            return
        try:
            packet = self._read(eio_sid, data)
            if packet is not None and packet.packet_type == sio_packet.CONNECT:
                session.introduced = True
            if not session.introduced:
                raise Malformed()
        except Malformed:
            session.malformed()
            return
        if packet is None:
            return
        if packet.packet_type == sio_packet.CONNECT:
            await self._handle_connect(eio_sid, packet.namespace, packet.data)
        elif packet.packet_type == sio_packet.DISCONNECT:
            await self._handle_disconnect(eio_sid, packet.namespace)
        elif packet.packet_type in (sio_packet.EVENT, sio_packet.BINARY_EVENT):
            await self._handle_event(eio_sid, packet.namespace, packet.id, packet.data)
        elif packet.id:  # with id 0, python-socketio would call its own counter as the callback
            await self._handle_ack(eio_sid, packet.namespace, packet.id, packet.data)

    def _read(self, eio_sid: str, data: str | bytes) -> Any:
        """Returns a packet, or None if attachments are still missing. Raises Malformed."""
        try:
            if (packet := self._binary_packet.get(eio_sid)) is not None:
                if not packet.add_attachment(data):
                    return None
                del self._binary_packet[eio_sid]
                return packet
            if not data:
                raise Malformed()
            packet = self.packet_class(encoded_packet=data)
            if not is_valid(packet.packet_type, packet.data):
                raise Malformed()
        except Malformed:
            raise
        except Exception as error:  # other serializers raise errors of their own
            raise Malformed() from error
        if packet.attachment_count:
            self._binary_packet[eio_sid] = packet
            return None
        return packet

    # --- namespaces ---------------------------------------------------------------------------------

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        """Differs from the original: an unknown namespace is refused as the reference server does, a repeated
        CONNECT changes nothing, a handler that fails refuses the client, and a client that disconnects
        while it connects is removed (the original would keep it forever)."""
        namespace = namespace or "/"
        session = self._present(eio_sid)
        if session is None:
            return
        if not self._has(namespace):
            await self._refuse(eio_sid, namespace, "Invalid namespace")
            return
        if self.manager.sid_from_eio_sid(eio_sid, namespace) is not None:
            return
        try:
            await super()._handle_connect(eio_sid, namespace, data)
        except Exception:  # the client gets a reply, whatever the application raises
            log.exception("the connect handler failed")
            sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
            if sid is not None:
                await self.manager.disconnect(sid, namespace, ignore_queue=True)
            await self._refuse(eio_sid, namespace, "Internal error")
            return
        sid = self.manager.sid_from_eio_sid(eio_sid, namespace)
        if sid is None:
            return
        if self._present(eio_sid) is None:
            await self._handle_disconnect(eio_sid, namespace, self.reason.TRANSPORT_CLOSE)
            return
        self._is_inside(eio_sid)
        if self.admitted is not None:
            self.admitted(session, sid, namespace)

    def _has(self, namespace: str) -> bool:
        return (
            self.namespaces == "*"
            or namespace in self.namespaces
            or namespace in self.handlers
            or namespace in self.namespace_handlers
        )

    async def _refuse(self, eio_sid: str, namespace: str, message: str) -> None:
        await self._send_packet(
            eio_sid,
            self.packet_class(
                sio_packet.CONNECT_ERROR, data={"message": message}, namespace=namespace
            ),
        )

    async def _handle_disconnect(
        self, eio_sid: str, namespace: str | None, reason: str | None = None
    ) -> None:
        await super()._handle_disconnect(eio_sid, namespace, reason)
        self._left(eio_sid)

    async def disconnect(
        self, sid: str, namespace: str | None = None, ignore_queue: bool = False
    ) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, namespace or "/")
        await super().disconnect(sid, namespace, ignore_queue)
        self._left(eio_sid)
