"""A client that reads slowly gets the answers that it requests, and is not disconnected because of them."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from chatserver.realtime import EngineServer
from chatserver.realtime.engine.packet import Packet
from tests.conftest import Starter
from tests.support.bare import BareSocket, Polling, event
from tests.support.echo import Raw, serving
from tests.support.people import People, Person
from tests.support.raw import LONG, Wire
from tests.support.servers import ChatServer

PAGE_BYTES = 512 * 1024
RATE = 64 * 1024
"""Bytes per second. A page takes eight seconds, several times as long as a ping may be unanswered."""
HURRIED = {"PING_INTERVAL_S": "2", "PING_TIMEOUT_S": "1"}


class SlowSocket:
    """A WebSocket that reads RATE bytes per second, and answers pings when it has read them."""

    def __init__(self, bare: BareSocket) -> None:
        self._bare = bare

    async def read_to(self, start: bytes) -> bytes:
        """Returns the next packet that starts so."""
        while True:
            size = await self._size()
            data = bytearray()
            while len(data) < size:
                data += await self._bare.reader.read(min(size - len(data), RATE // 16))
                await asyncio.sleep(1 / 16)
            if data == b"2":
                await self._bare.write("3")
            if data.startswith(start):
                return bytes(data)

    async def _size(self) -> int:
        _, size = await self._bare.reader.readexactly(2)
        if size < 126:
            return int(size)
        return int.from_bytes(await self._bare.reader.readexactly(2 if size == 126 else 8))


async def say_much(desk: Wire, talk: dict[str, Any], messages: int) -> None:
    for _ in range(messages):
        assert (await (await desk.say(talk, LONG)))["ok"]


async def slow_socket(person: Person, request: str) -> Any:
    bare = await BareSocket.connect(person, receive_buffer=4096)
    await bare.write(request)
    ack = await SlowSocket(bare).read_to(b"43")
    bare.abort()
    return json.loads(ack[ack.index(b"[") :])[0]


async def slow_poll(person: Person, request: str) -> Any:
    """The responses are read at the rate of a slow line; the requests are on another connection."""
    poller = await Polling.connect(person)
    assert (await poller.post(request))[0] == 200
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.setblocking(False)
    at = person.server.ws_port
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", at))
    reader, writer = await asyncio.open_connection(sock=plain, limit=2**16)
    while True:
        writer.write(f"GET {poller.url.partition(str(at))[2]} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = bytearray()
        while len(body) < size:
            body += await reader.read(min(size - len(body), RATE // 16))
            await asyncio.sleep(1 / 16)
        for packet in bytes(body).split(b"\x1e"):
            if packet == b"2":
                assert (await poller.post("3"))[0] == 200
            elif packet.startswith(b"43"):
                writer.close()
                return json.loads(packet[packet.index(b"[") :])[0]


async def test_a_page_takes_as_long_as_the_line_is_slow(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(LOG_LEVEL="warning", **HURRIED)
    alice, bob, carol = people_of(server)("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    desk = await Wire.connect(alice)
    await say_much(desk, talk, 12)
    sync = event(1, "messages:sync", {"conversationId": talk["id"], "afterRev": 0})
    began = time.monotonic()
    for answer in await asyncio.gather(slow_socket(bob, sync), slow_poll(carol, sync)):
        assert [message["seq"] for message in answer["data"]["messages"]] == list(range(1, 13))
    assert time.monotonic() - began > 12 * len(LONG.encode()) / RATE, "it was slow"


async def test_messages_that_arrive_behind_an_unread_page_do_not_end_the_session(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """A page and as much as a client may be behind with, together."""
    server = await start(LOG_LEVEL="warning")
    alice, bob, carol = people_of(server)("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    desk = await Wire.connect(alice)
    await say_much(desk, talk, 12)
    slow = await BareSocket.connect(bob, receive_buffer=4096)
    poller = await Polling.connect(carol)
    sync = event(1, "messages:sync", {"conversationId": talk["id"], "afterRev": 0})
    await slow.write(sync)
    assert (await poller.post(sync))[0] == 200
    await asyncio.sleep(0.2)
    await say_much(desk, talk, 24)
    seen: list[bytes] = []
    while len(seen) < 25:
        _, data = await slow.frame()
        if data.startswith((b"43", b'42["message:new"')):
            seen.append(data)
    assert seen[0].startswith(b"43")
    await poller.poll_for('42["message:new"', 24)
    slow.abort()


async def test_an_answer_of_any_size_is_no_reason_to_disconnect() -> None:
    """Nothing else is sent. In the next turn of the event loop, the flush must not find the client too slow."""
    server = EngineServer(async_mode="aiohttp", unsent_limit=64 * 1024)
    size = 1_480_000

    async def message(sid: str, _: Any) -> None:
        session = server.sockets[sid]
        session.emit(Packet(b"x" * size))
        await session.drained()
        session.emit(Packet(b"done"))

    def small_buffer(info: Any) -> socket.socket:
        made = socket.socket(info[0])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    server.on("message", message)
    connector = aiohttp.TCPConnector(socket_factory=small_buffer)
    async with (
        serving(server) as url,
        aiohttp.ClientSession(connector=connector) as session,
        Raw(url, session).websocket(max_msg_size=2 * size) as websocket,
    ):
        await websocket.receive()
        await websocket.send_str("4please")
        await asyncio.sleep(0.3)
        assert len((await websocket.receive()).data) == 1 + size
        assert (await websocket.receive()).data == "4done"
