"""An engine.io session: long polling as engineio does it, WebSocket by our own hand.

Overridden of engineio 4.15.1's AsyncSocket: send, poll, receive, handle_post_request, close,
schedule_ping and _upgrade_websocket. Over WebSocket there is no queue and no task: what is sent
within a turn of the loop leaves in one write at its end, and what comes in is handled where it is
parsed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, web
from engineio import packet as engine
from engineio.async_socket import AsyncSocket
from engineio.exceptions import ContentTooLongError
from engineio.payload import Payload

from .packet import Packet, frame
from .websocket import HARD_BYTES, MAX_FRAME, Malformed, WebSocket, WebSocketResponse

if TYPE_CHECKING:
    from .server import EngineServer

SOFT_BYTES = 128 * 1024
"""Unsent bytes past which fleeting packets are dropped for a session."""
UPGRADE_S = 10.0
BODY_S = 10.0

PING = engine.Packet(engine.PING)
NOOP = engine.Packet(engine.NOOP)
PING_FRAME = frame(b"2")


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
