"""An engine.io session: long polling, WebSocket, and the upgrade from one to the other.

It keeps the state of engineio 4.15.1's AsyncSocket, and overrides send, poll, close, handle_get_request,
handle_post_request, schedule_ping and _upgrade_websocket. Over WebSocket there is no queue and no task: all
packets of one turn of the event loop leave in one write at its end, and input is handled as it is parsed.
"""

from __future__ import annotations

import asyncio
import binascii
import time
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, web
from engineio import packet as engine
from engineio.async_socket import AsyncSocket
from engineio.exceptions import ContentTooLongError

from .end_reasons import MALFORMED, TOO_SLOW
from .heartbeat import PingedTogether
from .packet import Malformed, Packet, frame
from .polling import NOOP, Polling, read
from .receive_queue import ReceiveQueue
from .websocket import TURN_S, WebSocket, WebSocketResponse

if TYPE_CHECKING:
    from .engine import EngineServer

SOFT_BYTES = 128 * 1024
"""Unsent bytes past which a session's volatile packets are dropped."""
SLOWEST = 16 * 1024
"""Bytes per second that a client must read to keep its session while it reads a large answer."""

PING = engine.Packet(engine.PING)
CLOSE = engine.Packet(engine.CLOSE)
PING_FRAME = frame(b"2")


class Session(AsyncSocket):
    server: EngineServer
    connected: bool
    upgraded: bool
    closed: bool
    closing: bool
    end_reason: str | None = None
    """Why the session ends. Set before its transport is closed, because the loss of a transport has no reason."""
    _patient_until = 0.0
    """Until then, by the loop's clock, a late answer to a ping does not end the session."""

    def __init__(self, server: EngineServer, sid: str, address: str = "") -> None:
        super().__init__(server, sid)
        self._address = address
        self.queue = None  # an asyncio.Queue takes 3 KB
        self.connection: Any = None
        """An object that a fast path keeps with the session."""
        self.introduced = False
        """True once the client has sent a Socket.IO CONNECT."""
        self.websocket: WebSocket | None = None
        self.silent_since = 0.0
        """When the oldest unanswered ping was sent; 0 if there is none."""
        self.beat: PingedTogether | None = None
        self._polling = Polling()
        self._probed = False
        self._receive_queue: ReceiveQueue | None = None

    # --- output ---------------------------------------------------------------------------------

    def emit(self, packet: Packet) -> None:
        """Send a packet without waiting. If too much is unsent, a volatile packet is dropped, and any other
        closes the session."""
        if self.closed or self.closing:
            return
        if self.upgraded and self.websocket is not None:
            if packet.volatile and self.websocket.is_behind(SOFT_BYTES):
                self.server.spared += 1
            else:
                self.websocket.send(packet.frame)
            return
        polling = self._polling
        limit = SOFT_BYTES if packet.volatile else self.server.unsent_limit + polling.excused
        if polling.unsent > limit:
            if packet.volatile:
                self.server.spared += 1
            else:
                self.server.drop(self, TOO_SLOW)
            return
        polling.put(packet.polled, len(packet.payload))

    async def drained(self) -> None:
        """Return when the client has read most of its unsent data, or is disconnected.

        Call this after each answer. Then a client that requests a lot is served as fast as it reads, and is not
        closed because of its answers: unless it reads less than SLOWEST.
        """
        while not self.closed and not self.closing:
            websocket = self.websocket if self.upgraded else None
            unsent = (websocket or self._polling).unsent
            if unsent > SLOWEST:
                # The next ping arrives behind the answer.
                until = self.server.turn.loop.time() + self._patience(unsent)
                self._patient_until = max(self._patient_until, until)
            if unsent <= SOFT_BYTES:
                return
            if websocket is not None:
                await websocket.drained()
            else:
                self._polling.excused = unsent
                await self._polling.taken()

    def _patience(self, unsent: int) -> float:
        """Returns the seconds in which a client must have read so many bytes, and what follows them."""
        return float(self.server.ping_timeout + unsent / SLOWEST)

    async def send(self, pkt: engine.Packet) -> None:
        if pkt.packet_type == engine.MESSAGE:
            if pkt.binary:
                self.emit(Packet(bytes(pkt.data), binary=True))
            else:
                self.emit(Packet(pkt.encode()[1:].encode()))
        elif not self.closed and not self.closing:
            self._say(pkt)

    def _say(self, pkt: engine.Packet) -> None:
        if self.upgraded and self.websocket is not None:
            self.websocket.send(frame(pkt.encode().encode()))
        else:
            self._polling.put(pkt)

    # --- long polling ---------------------------------------------------------------------------

    async def poll(self) -> list[engine.Packet]:
        """Returns the waiting packets without waiting for more."""
        return self._polling.take() or [NOOP]

    async def handle_get_request(self, environ: dict[str, Any]) -> Any:
        request = environ["aiohttp.request"]
        if request.query.get("transport") == "websocket":
            return await self._upgrade_websocket(environ)
        polling = self._polling
        await polling.answered()
        if polling.is_waited_for:
            # Two polls at the same time would break the order of packets.
            await self.close(wait=False, abort=True, reason=self.server.reason.TRANSPORT_ERROR)
            raise Malformed()
        if not polling.has_something and not self._probed:
            try:
                await polling.wait(request)
            except Malformed:
                # Closed before anything else runs: the next poll must not find this session open.
                await self.close(wait=False, abort=True, reason=self.server.reason.TRANSPORT_CLOSE)
                raise
            except asyncio.CancelledError:
                self.server.drop(self, self.server.reason.TRANSPORT_CLOSE)
                raise
            finally:
                polling.over()
        return polling.leave(request, self._patience(polling.unsent)) or [NOOP]

    async def answer(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write the response to a poll. Return when the client has read most of it, or is disconnected."""
        transport = request.transport
        if self.closed:
            self._polling.hang_up()
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            self.server.drop(self, self.server.reason.TRANSPORT_CLOSE)
        finally:
            self._polling.arrived(transport)

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Handle all packets of a body. Raises Malformed or ContentTooLongError, and then ends the session."""
        polling = self._polling
        try:
            if polling.posting:
                raise Malformed()
            polling.posting = True
            try:
                limit = self.server.max_http_buffer_size
                await self._unpack(await read(environ["aiohttp.request"], limit))
                if self._receive_queue is not None:
                    await self._receive_queue.room()
            finally:
                polling.posting = False
        except (Malformed, ContentTooLongError):
            self.server.drop(self, self.server.reason.TRANSPORT_ERROR)
            raise

    async def _unpack(self, packets: list[bytes]) -> None:
        until = time.perf_counter() + TURN_S
        for packet in packets:
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + TURN_S
            if self.closing or self.closed:
                return
            if packet[:1] == b"b":
                try:
                    data = binascii.a2b_base64(packet[1:], strict_mode=True)
                except binascii.Error:
                    raise Malformed() from None
                self.server.deliver_binary(self, data)
            else:
                self.received(packet)
                if packet[:1] == b"1":
                    return

    # --- input ----------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Handle one Engine.IO text packet. Raises Malformed."""
        kind = data[:1]
        if kind == b"4":
            self.server.deliver(self, data[1:])
        elif kind == b"3":
            self.silent_since = 0.0
        elif kind == b"1":
            self.server.drop(self, self.server.reason.CLIENT_DISCONNECT)
        else:
            raise Malformed()

    def received_binary(self, data: bytes) -> None:
        """Handle one binary message of a WebSocket. Raises Malformed."""
        if not self.upgraded:
            raise Malformed()  # only the probe is allowed yet
        self.server.deliver_binary(self, data)

    def hold(self, data: str | bytes) -> None:
        """Pass a message to the server's `message` handler, after all earlier messages."""
        if self._receive_queue is None:
            self._receive_queue = ReceiveQueue(self)
        self._receive_queue.put(data)

    def queue_emptied(self) -> None:
        """Drop the empty queue. It is as large as the rest of a session, and most clients are silent most of
        the time."""
        self._receive_queue = None

    def malformed(self) -> None:
        """End the session, because a message of the client violates the protocol."""
        self.end_reason = MALFORMED
        if self.websocket is not None and self.upgraded:
            self.websocket.end(WSCloseCode.UNSUPPORTED_DATA, "not a Socket.IO packet")
        else:
            self.server.drop(self, self.server.reason.TRANSPORT_ERROR)

    def pause(self, paused: bool) -> None:
        if self.websocket is not None and self.upgraded:
            self.websocket.pause(paused)

    # --- the WebSocket --------------------------------------------------------------------------

    async def _upgrade_websocket(self, environ: dict[str, Any]) -> Any:
        request = environ["aiohttp.request"]
        response = WebSocketResponse()
        websocket = self.websocket = WebSocket(
            self,
            self.server.turn,
            self.server.unsent_limit,
            self.server.max_http_buffer_size,
        )
        try:
            await response.prepare(request)
        except BaseException as error:  # failed or cancelled: there is no WebSocket
            self.websocket = None
            if not self.connected:
                self.server.drop(self, self.server.reason.TRANSPORT_ERROR)
            if isinstance(error, ConnectionError):
                # The client disconnected before the response. aiohttp would log this as our error.
                return response
            raise
        if self.connected:
            # A polling session upgrades only after its probe (see probed).
            asyncio.get_running_loop().call_later(
                self.server.upgrade_timeout, self._probe_timeout, websocket
            )
        else:
            self.connected = self.upgraded = True
            self._take_queue(websocket)
        websocket.take_over(request.protocol)
        return response

    def websocket_lost(self) -> None:
        if self.upgraded:
            self.server.drop(self, self.server.reason.TRANSPORT_CLOSE)
        else:
            self.websocket = None
            self._probed = False

    def probed(self, data: bytes) -> None:
        """Handle a packet on the WebSocket of a session that still polls. Raises Malformed."""
        if self.websocket is None:
            return
        if data == b"2probe":
            self.websocket.write(frame(b"3probe"))
            self._probed = True
            if self._polling.is_waited_for:
                self._polling.put(NOOP)
        elif data == b"5":
            self._probed = False
            self.upgraded = True
            self.websocket.take = self.received
            self._take_queue(self.websocket)
            self._polling.release()
        else:
            raise Malformed()

    def _probe_timeout(self, websocket: WebSocket) -> None:
        if not self.upgraded:
            websocket.end(WSCloseCode.POLICY_VIOLATION, "upgrade timed out")

    def _take_queue(self, websocket: WebSocket) -> None:
        for pkt in self._polling.take():
            if pkt.binary:
                websocket.send(Packet(pkt.data, binary=True).frame)
            elif pkt is not NOOP:
                websocket.send(frame(pkt.encode().encode()))

    # --- the end --------------------------------------------------------------------------------

    def schedule_ping(self) -> None:
        self.server.heartbeat.add(self)

    def ping(self, now: float) -> None:
        if not self.silent_since:
            self.silent_since = now
        if self.upgraded and self.websocket is not None:
            self.websocket.send(PING_FRAME)
        elif not self.closing:
            self._polling.put(PING)

    def ping_timed_out(self) -> None:
        if self.server.turn.loop.time() >= self._patient_until:
            self.server.drop(self, self.server.reason.PING_TIMEOUT)

    async def close(
        self, wait: bool = True, abort: bool = False, reason: str | None = None
    ) -> None:
        """As the original, but it never waits for the client to read queued packets. Unless `abort` is set, the
        packets for a client that polls are kept for its next poll."""
        if self.closed or self.closing:
            return
        self.server.ended(self.end_reason or reason or "server disconnect")
        self.server.heartbeat.discard(self)
        self.server.addresses.leave(self._address)
        self._address = ""
        if self._polling.is_waited_for:
            by_client = reason == self.server.reason.CLIENT_DISCONNECT
            self._polling.put(NOOP if by_client else CLOSE)
        elif not abort and not self.upgraded:
            self.server.keep_last_words(self.sid, [*self._polling.take(), CLOSE])
        if self.websocket is not None:
            self.websocket.end(WSCloseCode.OK, "")
        self._polling.end()
        self._polling.hang_up()
        await super().close(wait=False, abort=True, reason=reason)
        if self._receive_queue is not None:
            self._receive_queue.clear()
        self.server.sockets.pop(self.sid, None)
