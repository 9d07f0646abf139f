"""The WebSocket of a session: aiohttp's handshake and parser, without its queue, task and writer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from .end_reasons import MALFORMED, TOO_SLOW
from .packet import CLOSE_FRAME, PONG_FRAME, Malformed, frame
from .tcp import ABORT_S, KERNEL_BYTES, TCP_NOTSENT_LOWAT, TCP_USER_TIMEOUT, set_tcp

log = logging.getLogger(__name__)

CONGESTED_BYTES = 64 * 1024
"""The default high-water mark of asyncio's transports, past which they call `pause_writing`."""
PORTION_BYTES = 1024
TURN_S = 0.002
"""How long handling the input of one client may take in one turn of the event loop. A single read may have
ten thousand small events, and all other clients would wait for the last of them."""
APART_S = 0.005


class WebSocketSession(Protocol):
    """The part of a session that its WebSocket uses."""

    connected: bool
    end_reason: str | None

    def received(self, data: bytes) -> None: ...
    def received_binary(self, data: bytes) -> None: ...
    def probed(self, data: bytes) -> None: ...
    def websocket_lost(self) -> None: ...


class Turn:
    """The WebSockets that have something to write at the end of this turn of the event loop."""

    loop: asyncio.AbstractEventLoop
    # Stored, because on Python 3.11 each get_running_loop() is a system call.

    def __init__(self, delivered: Callable[[float, int], None]) -> None:
        """`delivered` is called when all packets of a turn are written, with the seconds since the first of them
        was sent and the number of WebSockets."""
        self._delivered = delivered
        self._websockets: list[WebSocket] = []
        self._began = 0.0

    def add(self, websocket: WebSocket) -> None:
        if not self._websockets:
            self._began = time.perf_counter()
            self.loop.call_soon(self._end)
        self._websockets.append(websocket)

    def discard(self, websocket: WebSocket) -> None:
        if websocket in self._websockets:
            self._websockets.remove(websocket)

    def _end(self) -> None:
        websockets, self._websockets = self._websockets, []
        for websocket in websockets:
            websocket.flush()
        self._delivered(time.perf_counter() - self._began, len(websockets))


class WebSocket(asyncio.Protocol):
    """The transport of a session after the handshake. It calls the session's `websocket_lost` once, at its end."""

    __slots__ = (
        "_drained",
        "_ended",
        "_excused",
        "_goes_on",
        "_limit",
        "_lost",
        "_out",
        "_parser",
        "_paused",
        "_rest",
        "_session",
        "_transport",
        "_turn",
        "congested",
        "take",
    )

    def __init__(
        self, session: WebSocketSession, turn: Turn, unsent_limit: int, max_message: int
    ) -> None:
        self._session = session
        self._turn = turn
        self._transport: asyncio.Transport | None = None
        self._limit = unsent_limit
        self._out: list[bytes] = []
        """Frames to write at the end of the turn."""
        self._excused = 0
        """Unsent bytes that do not count for the limit: while the client reads an answer that it requested."""
        self.congested = False
        """True while the transport's write buffer is past its high-water mark."""
        self._drained: asyncio.Future[None] | None = None
        self._ended = False
        self._lost = False
        self._parser = WebSocketReader(
            _ParserOutput(self), max_message, compress=False, decode_text=False
        )
        self._rest = b""
        """Bytes that were read and not parsed yet."""
        self._goes_on = False
        self._paused = False
        # If the session polls, it must probe the WebSocket first.
        self.take = session.probed if session.connected else session.received

    def take_over(self, handler: web.RequestHandler) -> None:
        """Take over the connection of an aiohttp handler, and end the handler. It needs several times the memory
        of a session, for its tasks and its request."""
        transport = handler.transport
        if transport is None or transport.is_closing():
            self.lost()
            return
        if self._ended:
            transport.close()
            return
        handler.transport = None
        self._transport = transport
        self.congested = handler.writing_paused
        transport.set_protocol(self)
        if self._limit < CONGESTED_BYTES:
            transport.set_write_buffer_limits(self._limit)
        set_tcp(self._transport, TCP_NOTSENT_LOWAT, KERNEL_BYTES)
        early, handler._message_tail = handler._message_tail, b""
        held = handler._reading_paused or handler._buffer_paused
        handler.connection_lost(None)
        # Set again, because a connect handler may read the peer's address from the request.
        handler.transport = transport
        if held:
            transport.resume_reading()
        if early:
            self.data_received(early)

    # --- asyncio.Protocol -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse the data, for at most TURN_S per turn of the event loop."""
        if len(data) <= PORTION_BYTES and not self._rest:
            self._parser.feed_data(data)
            return
        self._rest += data
        if not self._goes_on:
            self._go_on()

    def _go_on_later(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        data, self._rest = self._rest, b""
        at, until = 0, time.perf_counter() + TURN_S
        while at < len(data) and not self._paused and not self._ended:
            self._parser.feed_data(data[at : at + PORTION_BYTES])
            at += PORTION_BYTES
            if time.perf_counter() > until:
                break
        if self._ended:
            return
        self._rest = data[at:]
        self._read(not self._rest and not self._paused)
        if self._rest and not self._paused:
            self._go_on_later()

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        self._excused = 0
        self._relieve()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._ended = True
        self.lost()

    # --- output ---------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        return sum(map(len, self._out)) + self._buffered

    @property
    def _buffered(self) -> int:
        transport = self._transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def is_behind(self, limit: int) -> bool:
        """True if the client reads slowly, and more than `limit` bytes are unsent."""
        return self.congested and self._buffered > limit

    async def drained(self) -> None:
        """Return when the client has read most of the unsent data, or is disconnected. Until then, only data that is
        sent later can make it too slow."""
        self.flush()
        if not self.congested or self._lost:
            await asyncio.sleep(0)
            return
        self._excused = self._buffered
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def _relieve(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set_result(None)

    def send(self, data: bytes) -> None:
        """Write a frame at the end of this turn of the event loop."""
        if not self._out:
            self._turn.add(self)
        self._out.append(data)

    def flush(self) -> None:
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        if data:
            self.write(data)

    def flush_apart(self) -> None:
        """Write all frames now, and later frames not before APART_S have passed. A client that listens for one
        message at a time would miss a second one in the same read."""
        self.flush()
        self._turn.discard(self)
        self._out.append(b"")
        self._turn.loop.call_later(APART_S, self.flush)

    def write(self, data: bytes) -> None:
        transport = self._transport
        if self._ended or transport is None or transport.is_closing():
            return
        if self.congested and transport.get_write_buffer_size() > self._limit + self._excused:
            # Checked before this write, so that a client that keeps up can receive a packet of any size.
            self._session.end_reason = TOO_SLOW
            self._finish(WSCloseCode.TRY_AGAIN_LATER, TOO_SLOW)
            return
        transport.write(data)

    def end(self, code: int, reason: str) -> None:
        """Close with a WebSocket close frame; the client sees `code` and `reason`."""
        if not self._ended:
            self.flush()
            self._finish(code, reason)

    def _finish(self, code: int, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(frame(code.to_bytes(2, "big") + reason.encode(), CLOSE_FRAME))
            # The kernel would otherwise try forever to send to a peer that is alive but does not read.
            set_tcp(transport, TCP_USER_TIMEOUT, int(ABORT_S * 1000))
            transport.close()
            asyncio.get_running_loop().call_later(ABORT_S, transport.abort)
        self.lost()

    def lost(self) -> None:
        if not self._lost:
            self._lost = True
            self._relieve()
            self._session.websocket_lost()

    def pause(self, paused: bool) -> None:
        """Stop or resume reading. While paused, the client's messages wait in its own buffers."""
        self._paused = paused
        if self._rest:
            self._go_on_later()
        else:
            self._read(not paused)

    def _read(self, going_on: bool) -> None:
        if self._ended or self._transport is None or self._transport.is_closing():
            return
        if going_on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def received(self, message: WSMessage) -> None:
        if self._ended:
            return
        try:
            if message.type is WSMsgType.TEXT:
                self.take(message.data)
            elif message.type is WSMsgType.BINARY:
                self._session.received_binary(message.data)
            elif message.type is WSMsgType.PING:
                # `write` applies the limit: an attacker could send pings forever and read no pong.
                self.write(frame(message.data, PONG_FRAME))
            elif message.type is WSMsgType.CLOSE:
                self.end(message.data or WSCloseCode.OK, "")
        except Malformed:
            self._session.end_reason = MALFORMED
            self.end(WSCloseCode.UNSUPPORTED_DATA, "not a Socket.IO packet")

    def failed(self, error: BaseException) -> None:
        if not isinstance(error, WebSocketError):
            log.error("a frame could not be handled", exc_info=error)
        self._session.end_reason = MALFORMED
        code = getattr(error, "code", WSCloseCode.PROTOCOL_ERROR)
        self.end(code, "message too big" if code == WSCloseCode.MESSAGE_TOO_BIG else "")


class _ParserOutput(WebSocketDataQueue):
    """Passes on the messages of aiohttp's parser as they are parsed, instead of queueing them for a task.

    To the parser it is a queue that is never full. It has no deque, which would be larger than everything
    else.
    """

    __slots__ = ("_websocket",)
    _size = _limit = 0

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    def feed_data(self, data: Any, size: int) -> None:
        self._websocket.received(data)

    def feed_eof(self) -> None:
        self._websocket.lost()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        self._websocket.failed(exc)


class WebSocketResponse(web.WebSocketResponse):
    """aiohttp's handshake, and nothing after it.

    Per-message deflate is off: a compressor takes 256 KiB per connection, and frames could not be shared.
    Overrides of aiohttp 3.14: _post_start and write_eof.
    """

    def __init__(self) -> None:
        super().__init__(compress=False)

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        """Does nothing. The original would set a parser and a queue."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Does not close the connection, which WebSocket has taken over."""
        self._eof_sent = True
