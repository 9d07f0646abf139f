"""Clients below the protocol: frames bit by bit, and long polling request by request."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

from .people import PATIENCE_S, Person

TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
SEPARATOR = "\x1e"


def hello(person: Person) -> str:
    """Returns the packet with which a client authenticates."""
    return "40" + json.dumps({"token": person.token})


def event(number: int | None, name: str, payload: Any = None) -> str:
    return f"42{'' if number is None else number}" + json.dumps([name, payload or {}])


class BareSocket:
    """A WebSocket with a proper handshake, for any frames. It reads only on request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, person: Person, *, receive_buffer: int = 0) -> BareSocket:
        return await cls.open_at(person.server.sockets, receive_buffer=receive_buffer)

    @classmethod
    async def open_at(cls, server: str, *, receive_buffer: int = 0) -> BareSocket:
        where = urlsplit(server)
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, (where.hostname, where.port))
        reader, writer = await asyncio.open_connection(sock=plain, limit=2**16)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {where.netloc}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head
        return cls(reader, writer)

    @classmethod
    async def connect(cls, person: Person, **options: Any) -> BareSocket:
        """Returns a socket that is in its rooms."""
        bare = await cls.open(person, **options)
        await bare.write(hello(person))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                _, data = await bare.frame()
                if data.startswith(b'42["connected"'):
                    return bare

    async def write(
        self, data: str | bytes, opcode: int = TEXT, *, first: int | None = None, mask: bool = True
    ) -> None:
        """Writes a frame. `first`: its first byte, if it should be unusual."""
        payload = data.encode() if isinstance(data, str) else data
        bit = 0x80 if mask else 0
        head = bytes([0x80 | opcode if first is None else first])
        if len(payload) < 126:
            head += bytes([bit | len(payload)])
        elif len(payload) < 65536:
            head += struct.pack("!BH", bit | 126, len(payload))
        else:
            head += struct.pack("!BQ", bit | 127, len(payload))
        # A mask of zeros is valid.
        self.writer.write(head + (bytes(4) if mask else b"") + payload)
        await self.writer.drain()

    async def frame(self) -> tuple[int, bytes]:
        """Returns opcode and payload of the next frame. Raises EOFError or ConnectionError at the end."""
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def close_code(self) -> int | None:
        """Reads to the end. Returns the code with which the server closed, or None."""
        code = None
        async with asyncio.timeout(PATIENCE_S):
            try:
                while True:
                    opcode, data = await self.frame()
                    if opcode == CLOSE:
                        code = struct.unpack("!H", data[:2])[0]
            except (EOFError, ConnectionError):
                return code

    def abort(self) -> None:
        self.writer.transport.abort()


class Polling:
    """Long polling by hand."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.session = person.session
        self.url = f"{person.server.sockets}/socket.io/?EIO=4&transport=polling"
        self.packets: list[str] = []

    @classmethod
    async def open(cls, person: Person) -> Polling:
        polling = cls(person)
        status, body = await polling.get()
        assert status == 200
        opened = json.loads(body[1:])
        polling.url += f"&sid={opened['sid']}"
        return polling

    @classmethod
    async def connect(cls, person: Person) -> Polling:
        polling = await cls.open(person)
        assert (await polling.post(hello(person)))[0] == 200
        await polling.poll_for('42["connected"')
        return polling

    @property
    def upgrade_url(self) -> str:
        return self.url.replace("transport=polling", "transport=websocket")

    async def get(self) -> tuple[int, str]:
        async with self.session.get(self.url) as answer:
            return answer.status, await answer.text()

    async def post(self, body: Any, **headers: str) -> tuple[int, str]:
        async with self.session.post(self.url, data=body, headers=headers) as answer:
            return answer.status, await answer.text()

    async def poll_for(self, start: str, count: int = 1, within: float = PATIENCE_S) -> list[str]:
        """Polls and answers pings, until `count` packets that start with `start` have arrived."""
        async with asyncio.timeout(within):
            while True:
                found = [packet for packet in self.packets if packet.startswith(start)]
                if len(found) >= count:
                    return found
                status, body = await self.get()
                assert status == 200, body
                several = body.split(SEPARATOR)
                if "2" in several:
                    await self.post("3")
                self.packets += several


class Unread:
    """An HTTP request whose response is not read, beyond the smallest possible buffer."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain

    @classmethod
    async def ask(cls, url: str) -> Unread:
        where = urlsplit(url)
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plain, (where.hostname, where.port))
        head = f"GET {where.path}?{where.query} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n"
        await loop.sock_sendall(plain, head.encode())
        return cls(plain)

    async def read(self) -> bytes:
        """Reads the response after all, to the end of its length."""
        loop = asyncio.get_running_loop()
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            while b"\r\n\r\n" not in said:
                said += await loop.sock_recv(self._plain, 4096)
            head, _, body = said.partition(b"\r\n\r\n")
            (length,) = re.findall(rb"Content-Length: (\d+)", head)
            while len(body) < int(length):
                body += await loop.sock_recv(self._plain, 65536)
        return body

    def close(self) -> None:
        self._plain.close()
