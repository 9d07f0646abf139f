"""Outgoing packets, encoded once and framed once for any number of sockets."""

from __future__ import annotations

from struct import pack
from typing import Any

import orjson
from engineio.exceptions import EngineIOError
from engineio.packet import MESSAGE
from engineio.packet import Packet as EnginePacket

TEXT_FRAME = 0x81
BINARY_FRAME = 0x82
CLOSE_FRAME = 0x88
PONG_FRAME = 0x8A


class Malformed(EngineIOError):
    """A client sent something that violates the protocol; the session ends."""


def frame(payload: bytes, opcode: int = TEXT_FRAME) -> bytes:
    """One unmasked WebSocket frame (RFC 6455, section 5.2), as servers send them."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (opcode, size, payload)
    if size < 65536:
        return pack("!BBH", opcode, 126, size) + payload
    return pack("!BBQ", opcode, 127, size) + payload


class Packet:
    """An outgoing Socket.IO packet, as a WebSocket frame and as a packet for long polling."""

    __slots__ = ("_frame", "_polled", "binary", "payload", "volatile")

    def __init__(self, payload: bytes, *, volatile: bool = False, binary: bool = False) -> None:
        self.payload = payload
        self.volatile = volatile
        """True if the packet may be dropped for a client that reads slowly."""
        self.binary = binary
        """True for an attachment, which is sent as bytes, not text."""
        self._frame: bytes | None = None
        self._polled: EnginePacket | None = None

    @property
    def frame(self) -> bytes:
        if self._frame is None:
            binary = self.binary
            self._frame = (
                frame(self.payload, BINARY_FRAME) if binary else frame(b"4" + self.payload)
            )
        return self._frame

    @property
    def polled(self) -> EnginePacket:
        if self._polled is None:
            data = self.payload if self.binary else self.payload.decode()
            self._polled = EnginePacket(MESSAGE, data)
        return self._polled


def event(name: str, data: Any, *, volatile: bool = False) -> Packet:
    return Packet(b'2["%b",%b]' % (name.encode(), orjson.dumps(data)), volatile=volatile)


def ack(packet_id: int, data: Any) -> Packet:
    return Packet(b"3%d[%b]" % (packet_id, orjson.dumps(data)))
