"""Clients that make the server wait: pings, bodies, requests and handlers that never end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
import time
from collections.abc import Callable

import aiohttp
import pytest

from chatserver.realtime import RealtimeServer
from chatserver.realtime.engine import polling as long_polling
from tests.conftest import Starter
from tests.support.bare import PING, SEPARATOR, BareSocket, Polling, Unread, event
from tests.support.echo import HURRIED, INTERVAL_S, Raw, engine, serving
from tests.support.exposition import connections_become
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.process_memory import memory_mb, queued_kb
from tests.support.raw import LONG, RESTARTS, Wire, when
from tests.support.servers import ChatServer


async def test_pongs_are_not_kept_for_a_client_that_does_not_read_them(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """The server answers WebSocket pings itself. This client sends 40 MB of them and reads no pong."""
    server = await start(LOG_LEVEL="warning")
    people = people_of(server)
    mallory, alice, bob = people("mallory", "alice", "bob")
    talk = await alice.group(bob, mallory)
    listener = await Wire.connect(bob)
    bare = await BareSocket.connect(mallory, receive_buffer=4096)
    before = peak = memory_mb(server)
    pings = (struct.pack("!BB", 0x80 | PING, 0x80 | 125) + bytes(4) + b"x" * 125) * 500
    with contextlib.suppress(ConnectionError):
        for _ in range(640):
            bare.writer.write(pings)
            await bare.writer.drain()
            peak = max(peak, memory_mb(server))
    assert peak - before < 10
    await connections_become(people.server, 1)
    assert (await (await listener.say(talk, "Still here")))["ok"]
    bare.abort()


@pytest.mark.parametrize("said", [b"", b"Content-Length: 10\r\n\r\n4hel", b"Transfer-Encoding: chunked\r\n\r\n5\r\n4"])  # fmt: skip
async def test_a_body_that_does_not_end_ends_its_session(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(long_polling, "BODY_S", 0.2)
    async with serving(engine()) as url, aiohttp.ClientSession() as session:
        slow, other = Raw(url, session), Raw(url, session)
        await slow.open()
        await other.open()
        where = aiohttp.client.URL(url)
        reader, writer = await asyncio.open_connection(where.host, where.port)
        writer.write(
            f"POST {where.path}?EIO=4&transport=polling&sid={slow.sid} HTTP/1.1\r\nHost: x\r\n".encode()
            + (said or b"Content-Length: 5\r\n\r\n")
        )
        began = time.monotonic()
        assert (await asyncio.wait_for(reader.readline(), 2)).split()[1] == b"400"
        assert time.monotonic() - began > 0.15
        assert (await slow.get())[0] == 400
        assert await other.post("4hello") == (200, "ok")
        assert await other.get() == (200, "4hello")
        writer.close()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_handler_that_hangs_delays_no_other_client_and_no_heartbeat(transport: str) -> None:
    """The handler's own client is pinged, too, and its other events are handled in order afterwards."""
    sio = RealtimeServer(async_handlers=False, **HURRIED)
    go_on = asyncio.Event()
    done: list[int] = []

    @sio.event
    async def work(sid: str, number: int) -> int:
        if number == 0:
            await go_on.wait()
        done.append(number)
        return number

    async with serving(sio) as url, aiohttp.ClientSession() as session:
        stuck, other = [await _Visitor.enter(session, url, transport) for _ in range(2)]
        for number in range(20):
            await stuck.send(f'42{number}["work",{number}]')
        pings = {stuck: 0, other: 0}
        began = time.monotonic()
        at = 100
        while min(pings.values()) < 3:
            await other.send(f'42{at}["work",{at}]')
            assert await other.next(pings) == f"43{at}[{at}]"
            at += 1
            await stuck.next(pings, within=0.02)
        assert time.monotonic() - began < 4 * INTERVAL_S + 1
        assert [number for number in done if number < 100] == []
        go_on.set()
        assert [await stuck.next(pings) for _ in range(20)] == [f"43{n}[{n}]" for n in range(20)]
        assert [number for number in done if number < 100] == list(range(20))
        await other.leave()
        await stuck.leave()


class _Visitor:
    """A client on either transport that answers and counts pings."""

    def __init__(self, raw: Raw, websocket: aiohttp.ClientWebSocketResponse | None) -> None:
        self._raw = raw
        self._websocket = websocket
        self._came: asyncio.Queue[str] = asyncio.Queue()
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def enter(cls, session: aiohttp.ClientSession, url: str, transport: str) -> _Visitor:
        raw = Raw(url, session)
        websocket = await raw.websocket() if transport == "websocket" else None
        if websocket is None:
            await raw.open()
        else:
            await websocket.receive_str()
        visitor = cls(raw, websocket)
        await visitor.send("40")
        assert (await visitor.next({visitor: 0}))[:2] == "40"
        return visitor

    async def _hear(self) -> None:
        while True:
            if self._websocket is not None:
                self._came.put_nowait(await self._websocket.receive_str())
            else:
                status, body = await self._raw.get()
                assert status == 200, body
                for packet in body.split("\x1e"):
                    self._came.put_nowait(packet)

    async def send(self, packet: str) -> None:
        if self._websocket is not None:
            await self._websocket.send_str(packet)
        else:
            assert await self._raw.post(packet) == (200, "ok")

    async def next(self, pings: dict[_Visitor, int], within: float = 2.0) -> str:
        """Returns the next packet that is not a ping. If none arrives in time, returns "" if `within` is less
        than a second, and fails otherwise."""
        while True:
            try:
                came = await asyncio.wait_for(self._came.get(), within)
            except TimeoutError:
                assert within < 1, "nothing arrives"
                return ""
            if came != "2":
                return came
            pings[self] += 1
            await self.send("3")

    async def leave(self) -> None:
        self._hearing.cancel()
        await asyncio.gather(self._hearing, return_exceptions=True)
        if self._websocket is not None:
            await self._websocket.close()


async def test_clients_that_do_not_read_do_not_delay_the_shutdown(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """When the server stops, clients on either transport have a lot of unread data."""
    server = await start()
    people = people_of(server)
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    desk = await Wire.connect(alice)
    deaf = [await BareSocket.connect(bob, receive_buffer=4096) for _ in range(3)]
    poller = await Polling.connect(carol)
    for _ in range(15):
        assert (await (await desk.say(talk, LONG)))["ok"]
    polls = await Unread.ask(poller.url)
    await when(lambda: sum(size > 0 for size in queued_kb(server)) == 4)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert await server.stop() == 0
    assert time.monotonic() - began < 8 * slowness()
    assert await desk.ended() == RESTARTS
    polls.close()
    for bare in deaf:
        bare.abort()


async def test_a_connection_without_a_complete_request_is_closed(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """The connection sends nothing, half a request, or single bytes, also after a complete request."""
    server = await start(KEEP_ALIVE_S="1", LOG_LEVEL="warning")
    people = people_of(server)
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    wire, poller = await Wire.connect(alice), await Polling.connect(bob)
    poll = asyncio.create_task(poller.poll_for('42["message:new"'))
    whole = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    began = time.monotonic()

    async def is_closed(port: int, said: bytes, *, drips: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        async with asyncio.timeout(4):
            reading = asyncio.create_task(reader.read())
            while not reading.done():
                if drips:
                    writer.write(b"x")
                await asyncio.wait([reading], timeout=0.1)
        answer = b"" if isinstance(reading.exception(), ConnectionError) else reading.result()
        assert answer.count(b"HTTP/1.1 200") == said.count(whole)
        writer.close()

    await asyncio.gather(
        *[
            is_closed(port, said, drips=drips)
            for port in (server.port, server.ws_port)
            for said in (b"", b"GET /hea", whole, whole + b"GET /hea")
            for drips in (False, True)
            if said.endswith(b"hea") or not drips
        ]
    )
    assert 0.9 < time.monotonic() - began < 4 * slowness()
    # Connections with a request in progress stay open.
    assert not poll.done()
    assert (await (await wire.say(talk, "Still here")))["ok"]
    assert len(await poll) == 1


async def test_a_flood_of_small_events_takes_turns_with_other_clients(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """A single read or body may have thousands of events. Other clients do not wait for the last of them."""
    server = await start(RATE_LIMITS="on", LOG_LEVEL="error")
    people = people_of(server)
    mallory, alice = people("mallory", "alice")
    wire = await Wire.connect(alice)
    sockets = [await BareSocket.connect(mallory) for _ in range(5)]
    pollers = [await Polling.connect(mallory) for _ in range(3)]
    packet = event(None, "x")
    frames = (struct.pack("!BB", 0x81, 0x80 | len(packet)) + bytes(4) + packet.encode()) * 3000
    body = SEPARATOR.join([packet] * 3000)

    async def flood(bare: BareSocket) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                bare.writer.write(frames)
                await bare.writer.drain()

    async def read(bare: BareSocket) -> None:
        with contextlib.suppress(ConnectionError):
            while await bare.reader.read(2**16):
                pass

    async def post(poller: Polling) -> None:
        while (await poller.post(body))[0] == 200:
            await poller.get()

    flooding = [asyncio.create_task(work(bare)) for bare in sockets for work in (flood, read)]
    flooding += [asyncio.create_task(post(poller)) for poller in pollers]
    waits: list[float] = []
    end = time.monotonic() + 3
    while time.monotonic() < end:
        began = time.monotonic()
        await wire.caught_up()
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.1)
    assert sorted(waits)[len(waits) * 9 // 10] < 0.4
    for task in flooding:
        task.cancel()
    await asyncio.gather(*flooding, return_exceptions=True)
    for bare in sockets:
        bare.abort()
