"""The WebSocket of a session: aiohttp's handshake and parser, without its queue, task and writer."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web
from aiohttp._websocket.reader import WebSocketDataQueue, WebSocketReader

from .packet import CLOSE_FRAME, PONG_FRAME, Malformed, frame

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger(__name__)

ABORT_S = 5.0
"""A peer that never reads would keep a closing transport, and its buffer, for ever."""


# Linux's; the one is in Python's socket module from 3.12 on, the other on Linux alone.
TCP_NOTSENT_LOWAT = 25
TCP_USER_TIMEOUT = 18
KERNEL_BYTES = 128 * 1024
"""Unsent bytes that the kernel takes for a connection. Linux would take up to 4 MiB, four times of what
we keep ourselves. What is under way to a client that reads does not count: nobody is slower for it."""


PORTION_BYTES = 1024
TURN_S = 0.002
"""How long what one client sent may take in one turn of the loop. A single read may bring ten thousand
small events, and nobody else would be served before the last of them."""


def set_tcp(transport: asyncio.Transport | None, option: int, value: int) -> None:
    """Set an option of TCP, where there are TCP and the option."""
    if transport is None or transport.is_closing() or sys.platform != "linux":
        return
    plain = transport.get_extra_info("socket")
    if plain is not None and plain.family != socket.AF_UNIX:
        plain.setsockopt(socket.IPPROTO_TCP, option, value)


class WebSocket:
    """The transport of a session after the handshake."""

    def __init__(self, session: Session, request: web.BaseRequest) -> None:
        self._session = session
        self._protocol = request.protocol
        self._transport = request.transport
        self._limit = session.server.unsent_limit
        set_tcp(self._transport, TCP_NOTSENT_LOWAT, KERNEL_BYTES)
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False
        self.parser: WebSocketReader
        """Kept here: the queue holds it only weakly."""
        self._rest = b""
        """What has been read, and not parsed yet."""
        self._goes_on = False
        self._paused = False
        # A WebSocket of a session that polls is only on trial.
        self.take = session.probed if session.connected else session.received

    @property
    def unsent(self) -> int:
        transport = self._transport
        return transport.get_write_buffer_size() if transport is not None else 0

    async def drained(self) -> None:
        """Return when the client has taken most of what is unsent, or is gone."""
        drain = asyncio.ensure_future(self._protocol._drain_helper())
        await asyncio.wait((drain, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not drain.cancel() and drain.exception() is not None:
            self.lost()

    def write(self, data: bytes) -> None:
        transport = self._transport
        if self._ended or transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > self._limit:
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
            # The kernel would offer what it has for ever to a peer that is there and takes nothing.
            set_tcp(transport, TCP_USER_TIMEOUT, int(ABORT_S * 1000))
            transport.close()
            asyncio.get_running_loop().call_later(ABORT_S, transport.abort)
        self.lost()

    def lost(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading from the client: its sends then wait in its own buffers."""
        self._paused = paused
        if self._rest:
            self._go_on_later()
        else:
            self._read(not paused)

    def _read(self, going_on: bool) -> None:
        if self._ended or self._transport is None or self._transport.is_closing():
            return
        if going_on:
            self._protocol.resume_reading()
        else:
            self._protocol.pause_reading()

    def parse(self, data: bytes) -> None:
        """Take in what has been read: for as long as its turn is, and the rest in the next turns."""
        if len(data) <= PORTION_BYTES and not self._rest:
            self.parser.feed_data(data)
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
            self.parser.feed_data(data[at : at + PORTION_BYTES])
            at += PORTION_BYTES
            if time.perf_counter() > until:
                break
        if self._ended:
            return
        self._rest = data[at:]
        self._read(not self._rest and not self._paused)
        if self._rest and not self._paused:
            self._go_on_later()

    def received(self, message: WSMessage) -> None:
        if self._ended:
            return
        try:
            if message.type is WSMsgType.TEXT:
                self.take(message.data)
            elif message.type is WSMsgType.BINARY:
                self._session.received_binary(message.data)
            elif message.type is WSMsgType.PING:
                # Not past the limit: whoever pings for ever need not read the pongs.
                self.write(frame(message.data, PONG_FRAME))
            elif message.type is WSMsgType.CLOSE:
                self.end(message.data or WSCloseCode.OK, "")
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


class _Parser:
    """What aiohttp takes for the parser of the connection."""

    __slots__ = ("_websocket",)

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._websocket.parse(data)
        return False, b""

    def feed_eof(self) -> None:
        self._websocket.lost()


class WebSocketResponse(web.WebSocketResponse):
    """aiohttp's handshake, and then our own inbox in place of its queue.

    Without per-message deflate: a compressor is 256 KiB per connection, and a frame could not be
    shared. Overridden of aiohttp 3.14: _post_start and write_eof.
    """

    def __init__(self, session: Session) -> None:
        self._most = session.server.max_http_buffer_size
        super().__init__(compress=False, max_msg_size=self._most, decode_text=False)
        self._session = session
        self.websocket: WebSocket

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        # Not the stock one: it would set a parser of its own, and there can be only one.
        self._writer = writer
        self.websocket = self._session.websocket = WebSocket(self._session, request)
        inbox = _Inbox(self.websocket, request.protocol)
        parser = WebSocketReader(inbox, self._most, compress=False, decode_text=False)
        self.websocket.parser = parser
        request.protocol.set_parser(_Parser(self.websocket))  # type: ignore[arg-type]
        request.protocol.keep_alive(False)

    async def write_eof(self, data: bytes = b"") -> None:
        """The closing handshake is ours."""
        self._eof_sent = True
