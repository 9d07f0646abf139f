"""The Socket.IO server: python-socketio with its own sessions, events dispatched as they are parsed.

Overridden of engineio 4.15.1's AsyncServer: _handle_connect (to make our Session). Of socketio
5.18.1's AsyncServer: _handle_connect (to act once the client has been told), _engineio_server_class.
Of its manager: basic_disconnect, which looked through the rooms of everybody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import engineio
import socketio
import structlog
from aiohttp import WSCloseCode
from engineio import packet as engine_packet
from engineio.exceptions import QueueEmpty
from engineio.payload import Payload

from .. import wire
from ..errors import ChatError, PayloadTooLarge, ValidationFailed
from .heartbeat import Heartbeat
from .packet import ack, event
from .session import Session
from .websocket import MAX_FRAME, Malformed

log = structlog.get_logger(__name__)

MAX_PACKET = 64 * 1024
_EVENT = re.compile(rb"2(\d{0,15})(?=\[)")
_BINARY = re.compile(rb"[56]\d{1,3}-(\d{0,15})(?=\[)")
_NAME = re.compile(rb'\[\s*"([^"\\]{1,100})"')

# Bounded by the size of a body; engineio's limit of 16 would lose what a client sends at once.
Payload.max_decode_packets = MAX_PACKET


class Connection:
    """A client in the one namespace there is. Whoever dispatches may keep its own with `of`."""

    __slots__ = ("environ", "of", "rooms", "session", "sid", "user_id")

    def __init__(self, session: Session, sid: str, user_id: str) -> None:
        self.session = session
        self.sid = sid
        self.user_id = user_id
        self.rooms: set[str] = set()
        """Those it hears."""
        self.of: Any = None

    def emit(self, name: str, data: Any) -> None:
        self.session.emit(event(name, data))

    def ack(self, packet_id: int, data: Any) -> None:
        self.session.emit(ack(packet_id, data))

    def pause(self, paused: bool) -> None:
        if self.session.websocket is not None:
            self.session.websocket.pause(paused)


class Dispatcher(Protocol):
    """What stands behind the server. Nothing but `connecting` may wait."""

    async def connecting(
        self, session: Session, sid: str, environ: dict[str, Any], auth: Any
    ) -> Connection:
        """Let a client in. Raises ChatError to refuse."""

    def connected(self, connection: Connection) -> None:
        """The client has been told that it is connected."""

    def event(
        self, connection: Connection, name: str, data: list[Any], packet_id: int | None
    ) -> None:
        """An event came in; with `packet_id` it must be answered by Connection.ack."""

    def refused(
        self, connection: Connection, name: str | None, error: ChatError, packet_id: int | None
    ) -> None:
        """What came in is not taken as an event; `name` is the one it has, as far as can be seen."""

    def disconnected(self, connection: Connection) -> None:
        """The client has gone."""


class EngineServer(engineio.AsyncServer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heartbeat = Heartbeat(self.ping_interval, self.ping_timeout)
        self.deliver: Callable[[Session, bytes], None]
        self.draining = False
        self._dirty: list[Session] = []
        # Kept: on Python 3.11 each get_running_loop() is a system call.
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def flush_later(self, session: Session) -> None:
        """Write what the session has to say at the end of this turn of the loop."""
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(session)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            session.flush()

    def drop(self, session: Session, reason: str) -> None:
        """End a session from where nothing can be awaited."""
        self.spawn(session.close(wait=False, abort=True, reason=reason))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle_connect(
        self, environ: Any, transport: str, jsonp_index: int | None = None
    ) -> Any:
        if self.draining:
            # Refused by HTTP, not by Socket.IO: after that the client would not try again.
            return {"status": "503 SERVICE UNAVAILABLE", "headers": [], "response": b"draining"}
        wants = [one.strip() for one in environ.get("HTTP_CONNECTION", "").lower().split(",")]
        if transport == "websocket" and "upgrade" not in wants:
            # engineio would take it for a poll, and answer with what is no response.
            return self._bad_request("Invalid websocket upgrade")
        sid = self.generate_id()
        session = self.sockets[sid] = Session(self, sid)
        await session.send(
            engine_packet.Packet(
                engine_packet.OPEN,
                {
                    "sid": sid,
                    "upgrades": self._upgrades(sid, transport),
                    "pingInterval": int(self.ping_interval * 1000),
                    "pingTimeout": int(self.ping_timeout * 1000),
                    "maxPayload": MAX_PACKET,
                },
            )
        )
        await self._trigger_event("connect", sid, environ, run_async=False)
        session.schedule_ping()
        if transport == "websocket":
            return await session.handle_get_request(environ)
        session.connected = True
        try:
            return self._ok(await session.poll(), jsonp_index=jsonp_index)
        except QueueEmpty:
            return self._bad_request()


class Manager(socketio.AsyncManager):
    """Knows who is connected. Rooms are not its business here: a client is in two, all and itself."""

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        self.basic_leave_room(sid, namespace, None)
        self.basic_leave_room(sid, namespace, sid)
        for waiting in (self.pending_connect, self.pending_disconnect):
            if sid in waiting.get(namespace, ()):
                waiting[namespace].remove(sid)
                if not waiting[namespace]:
                    del waiting[namespace]


class Server(socketio.AsyncServer):
    """Hands events to the dispatcher as they come, in the order of each client."""

    eio: EngineServer

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        cors_origins: list[str] | str | None,
        ping_interval_s: float,
        ping_timeout_s: float,
    ) -> None:
        super().__init__(
            client_manager=Manager(),
            async_mode="aiohttp",
            cors_allowed_origins=cors_origins,
            ping_interval=ping_interval_s,
            ping_timeout=ping_timeout_s,
            max_http_buffer_size=MAX_FRAME,
            http_compression=False,
            monitor_clients=False,
        )
        self.eio.deliver = self._deliver
        self._dispatcher = dispatcher
        self.on("connect", self._connect)
        self.on("disconnect", self._disconnect)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer

    async def drain(self, seconds: float) -> None:
        """Take no new clients, and send all away to reconnect elsewhere, spread over `seconds`.

        Code 1012 (service restart): the JS client comes back by itself, as it does not after a
        Socket.IO disconnect.
        """
        self.eio.draining = True
        sessions = list(self.eio.sockets.values())
        for at, session in enumerate(sessions):
            if session.websocket is not None:
                session.websocket.end(WSCloseCode.SERVICE_RESTART, "the server restarts")
            else:
                await session.close(wait=False)
            if seconds and at % 10 == 9:
                await asyncio.sleep(seconds * 10 / len(sessions))

    # --- in -------------------------------------------------------------------------------------

    def _deliver(self, session: Session, body: bytes) -> None:
        """One Socket.IO packet. Raises Malformed."""
        kind = body[:1]
        if kind == b"2":
            self._event(session.connection, body)
        elif kind == b"0" or kind == b"1":
            self.eio.spawn(self._control(session, body))
        elif kind == b"5" or kind == b"6":
            if (found := _BINARY.match(body)) is None:
                raise Malformed()
            if session.connection is not None:
                error = ValidationFailed("Binary data is not taken.")
                name = _name(body, found)
                self._dispatcher.refused(session.connection, name, error, _id(found))
        elif kind != b"3":  # acknowledgements: we never ask for one
            raise Malformed()

    def _event(self, connection: Connection | None, body: bytes) -> None:
        if (found := _EVENT.match(body)) is None:
            raise Malformed()
        if connection is None:
            return
        packet_id = _id(found)
        if len(body) > MAX_PACKET:
            error: ChatError = PayloadTooLarge(f"A packet has at most {MAX_PACKET} bytes.")
            self._dispatcher.refused(connection, _name(body, found), error, packet_id)
            return
        try:
            name, *data = wire.decode(body[found.end() :])
            if not isinstance(name, str):
                raise ValidationFailed("The name of an event is a string.")
        except ValueError:
            error = ValidationFailed("An event has a name.")
            self._dispatcher.refused(connection, None, error, packet_id)
        except ValidationFailed as refusal:
            self._dispatcher.refused(connection, _name(body, found), refusal, packet_id)
        else:
            self._dispatcher.event(connection, name, data, packet_id)

    async def _control(self, session: Session, body: bytes) -> None:
        try:
            await self._handle_eio_message(session.sid, body.decode())
        except Exception as error:
            # Whatever it was, it was no packet: the client is at fault, and it alone pays.
            log.info("malformed packet", sid=session.sid, error=type(error).__name__)
            await session.close(wait=False, abort=True, reason=self.eio.reason.TRANSPORT_ERROR)

    # --- connect and disconnect -----------------------------------------------------------------

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        session = self.eio.sockets.get(eio_sid)
        if session is None or session.connection is not None:
            return
        await super()._handle_connect(eio_sid, namespace, data)
        connection = session.entered
        if connection is None:
            return
        if session.closed or session.closing:
            # It went while it was let in: the stock server would keep it for ever (5.18).
            session.connection = None
            await self.manager.disconnect(connection.sid, "/")
            self._dispatcher.disconnected(connection)
            return
        self._dispatcher.connected(connection)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        session = self.eio.sockets.get(self.manager.eio_sid_from_sid(sid, "/"))
        if session is None:
            raise socketio.exceptions.ConnectionRefusedError("gone")
        try:
            session.connection = await self._dispatcher.connecting(session, sid, environ, auth)
        except ChatError as error:
            raise socketio.exceptions.ConnectionRefusedError(error.message, error.wire()) from None

    async def _disconnect(self, sid: str, reason: str) -> None:
        session = self.eio.sockets.get(self.manager.eio_sid_from_sid(sid, "/"))
        if session is not None and session.connection is not None:
            connection, session.connection = session.connection, None
            self._dispatcher.disconnected(connection)


def _name(body: bytes, found: re.Match[bytes]) -> str | None:
    """Of an event that is not decoded."""
    named = _NAME.match(body, found.end())
    return named.group(1).decode(errors="replace") if named else None


def _id(found: re.Match[bytes]) -> int | None:
    digits = found.group(1)
    return int(digits) if digits else None
