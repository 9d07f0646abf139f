"""An engine.io session: long polling as engineio does it, WebSocket by our own hand.

Overridden of engineio 4.15.1's AsyncSocket: send, poll, receive, handle_post_request, close,
schedule_ping and _upgrade_websocket. Over WebSocket there is no queue and no task: what is sent
within a turn of the loop leaves in one write at its end, and what comes in is handled where it is
parsed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader
from engineio import packet as engine
from engineio.async_socket import AsyncSocket
from engineio.exceptions import ContentTooLongError, EngineIOError
from engineio.payload import Payload

from .packet import CLOSE_FRAME, Packet, frame

if TYPE_CHECKING:
    from .server import EngineServer

log = structlog.get_logger(__name__)

MAX_FRAME = 256 * 1024
"""A larger frame closes the connection (1009); the limit of a packet is lower and gets an answer."""
SOFT_BYTES = 128 * 1024
"""Unsent bytes past which fleeting packets are dropped for a session."""
HARD_BYTES = 1024 * 1024
"""Unsent bytes past which a session is closed: its client has to come back and sync."""
UPGRADE_S = 10.0
BODY_S = 10.0

PING = engine.Packet(engine.PING)
NOOP = engine.Packet(engine.NOOP)
PING_FRAME = frame(b"2")


class Malformed(EngineIOError):
    """What came in is not Engine.IO; the session ends."""


class Session(AsyncSocket):
    server: EngineServer
    connected: bool
    upgraded: bool
    upgrading: bool
    closed: bool
    closing: bool

    def __init__(self, server: EngineServer, sid: str) -> None:
        super().__init__(server, sid)
        self.connection: Any = None
        """Whatever the Socket.IO layer keeps with the session."""
        self.websocket: WebSocket | None = None
        self._out: list[bytes] = []
        self._polled_bytes = 0
        self.awaits_pong = False

    @property
    def entered(self) -> Any:
        """The connection, once the client has been let in."""
        return self.connection

    @property
    def transport(self) -> str:
        return "websocket" if self.upgraded else "polling"

    # --- out ------------------------------------------------------------------------------------

    def emit(self, packet: Packet) -> None:
        """Send a packet; nothing waits. Too slow a reader is closed instead of buffered for."""
        if self.closed or self.closing:
            return
        if self.upgraded:
            if not (packet.fleeting and self.websocket and self.websocket.unsent > SOFT_BYTES):
                self._write(packet.frame)
            return
        if self._polled_bytes > (SOFT_BYTES if packet.fleeting else HARD_BYTES):
            if not packet.fleeting:
                self.server.drop(self, "too slow")
            return
        self._polled_bytes += len(packet.payload)
        self.queue.put_nowait(packet.polled)

    def _write(self, data: bytes) -> None:
        if not self._out:
            self.server.flush_later(self)
        self._out.append(data)

    def flush(self) -> None:
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if self.websocket is not None:
            self.websocket.write(data)

    async def send(self, pkt: engine.Packet) -> None:
        if self.closed:
            return
        if self.upgraded and self.websocket is not None:
            self._write(frame(pkt.encode().encode()))
        else:
            self.queue.put_nowait(pkt)

    async def poll(self) -> list[engine.Packet]:
        packets = await super().poll()
        self._polled_bytes = 0
        return packets

    # --- in -------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """One Engine.IO packet. Raises Malformed."""
        kind = data[:1]
        if kind == b"4":
            self.server.deliver(self, data[1:])
        elif kind == b"3":
            self.awaits_pong = False
        elif kind == b"1":
            self.server.drop(self, self.server.reason.CLIENT_DISCONNECT)
        elif kind == b"5" or (kind == b"2" and self.upgrading):
            self._upgrade(data)
        else:
            raise Malformed()

    async def receive(self, pkt: engine.Packet) -> None:
        if not pkt.binary:
            self.received(pkt.encode().encode())

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """All packets of a body, or Malformed. engineio reads what happens to have arrived of it, and
        answers 200 for what it could not read."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in environ["aiohttp.request"].content.iter_any():
                    body += chunk
                    if len(body) > MAX_FRAME:
                        raise ContentTooLongError()
            for pkt in Payload(encoded_payload=body.decode()).packets:
                await self.receive(pkt)
        except (ValueError, IndexError, KeyError, TimeoutError):
            self.server.drop(self, self.server.reason.TRANSPORT_ERROR)
            raise Malformed() from None

    # --- the WebSocket --------------------------------------------------------------------------

    async def _upgrade_websocket(self, environ: dict[str, Any]) -> Any:
        if self.upgraded or self.websocket is not None:
            return self.server._bad_request("There is a WebSocket already.")
        response = WebSocketResponse(self)
        try:
            await response.prepare(environ["aiohttp.request"])
        except web.HTTPException:
            if not self.connected:
                self.server.drop(self, self.server.reason.TRANSPORT_ERROR)
            raise
        websocket = response.websocket
        if self.connected:
            # A polling session that upgrades: it is ours after the probe (see _upgrade).
            self.upgrading = True
            asyncio.get_running_loop().call_later(UPGRADE_S, self._probe_timeout, websocket)
        else:
            self.connected = self.upgraded = True
            self._take_queue()
        await websocket.closed
        if self.transport == "websocket":
            await self.close(wait=False, abort=True, reason=self.server.reason.TRANSPORT_CLOSE)
        else:
            self.websocket = None
            self.upgrading = False
        return response

    def _upgrade(self, data: bytes) -> None:
        if data == b"2probe" and self.websocket is not None:
            self.websocket.write(frame(b"3probe"))
            self.queue.put_nowait(NOOP)  # ends the poll that is under way
        elif data == b"5" and self.upgrading:
            self.upgrading = False
            self.upgraded = True
            self._take_queue()
        elif data != b"5":
            raise Malformed()

    def _probe_timeout(self, websocket: WebSocket) -> None:
        if not self.upgraded:
            websocket.end(WSCloseCode.POLICY_VIOLATION, "upgrade timed out")

    def _take_queue(self) -> None:
        while not self.queue.empty():
            pkt = self.queue.get_nowait()
            self.queue.task_done()
            if pkt is not None and pkt is not NOOP:
                self._write(frame(pkt.encode().encode()))

    def schedule_ping(self) -> None:
        self.server.heartbeat.add(self)

    def ping(self) -> None:
        if self.connection is None:
            # Half-connected, or left behind: a session is nothing without a Socket.IO connection.
            self.server.drop(self, self.server.reason.SERVER_DISCONNECT)
            return
        self.awaits_pong = True
        if self.upgraded:
            self._write(PING_FRAME)
        else:
            self.queue.put_nowait(PING)

    async def close(
        self, wait: bool = True, abort: bool = False, reason: str | None = None
    ) -> None:
        """The same, but never waiting for a client to take what is queued."""
        if self.closed or self.closing:
            return
        self.server.heartbeat.discard(self)
        if not self.upgraded:
            await super().close(wait=False, abort=abort, reason=reason)
            self.queue.put_nowait(None)
        else:
            await super().close(wait=False, abort=True, reason=reason)
        if self.websocket is not None:
            self.websocket.end(WSCloseCode.OK, "")
        self.server.sockets.pop(self.sid, None)


class WebSocket:
    """The transport of a session after the handshake."""

    def __init__(self, session: Session, request: web.BaseRequest) -> None:
        self._session = session
        self._protocol = request.protocol
        self._transport = request.transport
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False

    @property
    def unsent(self) -> int:
        transport = self._transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def write(self, data: bytes) -> None:
        transport = self._transport
        if self._ended or transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > HARD_BYTES:
            # Measured before this write: an answer of any size goes to a client that keeps up.
            self._finish(WSCloseCode.TRY_AGAIN_LATER, "too slow")
            return
        transport.write(data)

    def end(self, code: int, reason: str) -> None:
        """Close with a WebSocket close frame; the client sees `code` and `reason`."""
        if not self._ended:
            self._session.flush()
            self._finish(code, reason)

    def _finish(self, code: int, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(frame(code.to_bytes(2, "big") + reason.encode(), CLOSE_FRAME))
            transport.close()
            # A peer that never reads would keep a closing transport, and its buffer, for ever.
            asyncio.get_running_loop().call_later(5.0, transport.abort)
        self.lost()

    def lost(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading from the client: its sends then wait in its own buffers."""
        if self._ended or self._transport is None or self._transport.is_closing():
            return
        if paused:
            self._protocol.pause_reading()
        else:
            self._protocol.resume_reading()

    def received(self, message: WSMessage) -> None:
        if self._ended:
            return
        try:
            if message.type is WSMsgType.TEXT:
                self._session.received(message.data)
            elif message.type is WSMsgType.PING:
                if self._transport is not None:
                    self._transport.write(frame(message.data, 0x8A))
            elif message.type is WSMsgType.CLOSE:
                self.end(message.data or WSCloseCode.OK, "")
            # Binary messages are attachments of a packet that has been refused: ignored.
        except Malformed:
            self.end(WSCloseCode.UNSUPPORTED_DATA, "not a Socket.IO packet")

    def failed(self, error: BaseException) -> None:
        if not isinstance(error, WebSocketError):
            log.error("a frame could not be handled", exc_info=error)
        code = getattr(error, "code", WSCloseCode.PROTOCOL_ERROR)
        self.end(code, "message too big" if code == WSCloseCode.MESSAGE_TOO_BIG else "")


class _Inbox(WebSocketDataQueue):
    """Takes messages from aiohttp's parser as they are parsed, instead of queueing them for a task."""

    def __init__(self, websocket: WebSocket, protocol: Any) -> None:
        super().__init__(protocol, 2**16, loop=asyncio.get_running_loop())
        self._websocket = websocket

    def feed_data(self, data: Any, size: int) -> None:
        self._websocket.received(data)

    def feed_eof(self) -> None:
        self._websocket.lost()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        self._websocket.failed(exc)


class WebSocketResponse(web.WebSocketResponse):
    """aiohttp's handshake, and then our own inbox in place of its queue.

    Without per-message deflate: a compressor is 256 KiB per connection, and a frame could not be
    shared. Overridden of aiohttp 3.14: _post_start and write_eof.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(compress=False, max_msg_size=MAX_FRAME, decode_text=False)
        self._session = session
        self.websocket: WebSocket

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        # Not the stock one: it would set a parser of its own, and there can be only one.
        self._writer = writer
        self.websocket = self._session.websocket = WebSocket(self._session, request)
        inbox = _Inbox(self.websocket, request.protocol)
        # The parser is kept: the queue holds it only weakly.
        self._parser = WebSocketReader(inbox, MAX_FRAME, compress=False, decode_text=False)
        request.protocol.set_parser(self._parser)
        request.protocol.keep_alive(False)

    async def write_eof(self, data: bytes = b"") -> None:
        """The closing handshake is ours."""
        self._eof_sent = True
