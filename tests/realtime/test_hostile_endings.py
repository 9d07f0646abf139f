"""Half-closed connections, and forged acknowledgements."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from chatserver.realtime import RealtimeServer
from tests.conftest import Starter
from tests.support.bare import BareSocket, Polling, event
from tests.support.echo import serving
from tests.support.exposition import connections_become
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.raw import Wire
from tests.support.servers import ChatServer


async def test_a_half_closed_connection_ends_immediately(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """A client that has shut down its sending side is disconnected without waiting for a ping time-out."""
    people = people_of(await start(LOG_LEVEL="warning"))
    mallory, bob = people("mallory", "bob")
    talk = await bob.group(mallory)
    listener = await Wire.connect(bob)
    began = time.monotonic()
    # While idle, while a request is handled, in the middle of a frame, and before CONNECT.
    idle, asking, cut = [await BareSocket.connect(mallory) for _ in range(3)]
    stranger = await BareSocket.open(mallory)
    await asking.write(event(7, "messages:sync", {"conversationId": talk["id"], "afterRev": 0}))
    cut.writer.write(b"\x81\xfe\x10\x00" + bytes(4) + b"42")
    polling = await Polling.connect(mallory)
    await connections_become(people.server, 6)
    for bare in (idle, asking, cut, stranger):
        bare.writer.write_eof()
        await bare.close_code()
        bare.abort()
    # A poll that waits and is aborted.
    while True:
        poll = asyncio.create_task(polling.get())
        _, waiting = await asyncio.wait([poll], timeout=0.3)
        if waiting:
            break
    poll.cancel()
    await listener.until(lambda: listener.told("user:offline"))
    await connections_become(people.server, 1)
    assert time.monotonic() - began < 5 * slowness(), "long before the first ping"
    assert not listener.gone.is_set()


async def test_a_client_that_disconnects_during_the_handshake_leaves_nothing_behind(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(LOG_LEVEL="warning"))
    handshake = (
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def come_and_go() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", people.server.ws_port)
        writer.write(handshake)
        writer.transport.abort()

    for _ in range(20):
        await asyncio.gather(*[come_and_go() for _ in range(20)])
    await connections_become(people.server, 0)
    assert '"level"' not in people.server.log, "it is not an error, so nothing is logged"


async def test_a_forged_acknowledgement_calls_no_callback() -> None:
    sio = RealtimeServer()
    sids: list[str] = []
    answers: list[str] = []

    @sio.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        sids.append(sid)

    @sio.event
    async def here(sid: str) -> bool:
        return True

    async def enter(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
        websocket = await session.ws_connect(f"{url}?EIO=4&transport=websocket")
        await websocket.receive_str()
        await websocket.send_str("40")
        assert (await websocket.receive_str()).startswith("40")
        return websocket

    async def send(websocket: aiohttp.ClientWebSocketResponse, *packets: str) -> None:
        """Send packets, and return when the server has handled them."""
        for packet in packets:
            await websocket.send_str(packet)
        await websocket.send_str('4277["here"]')
        assert await websocket.receive_str() == "4377[true]"

    async with serving(sio) as url, aiohttp.ClientSession() as session:
        mallory, alice = await enter(session, url), await enter(session, url)
        await sio.emit("how", to=sids[1], callback=answers.append)
        number, _, question = (await alice.receive_str())[2:].partition("[")
        assert question == '"how"]'
        # For another client's event, for no event, and in a namespace that the client has not entered.
        forged = [f'43{n}["forged"]' for n in ("0", number, "1", "2", "99", "123456789012345")]
        await send(mallory, *forged, f'43/other,{number}["forged"]')
        await send(alice, '430["forged"]', f'43{number}["Fine"]', f'43{number}["Twice"]')
        assert answers == ["Fine"]
        # Both can still acknowledge events.
        for sid, websocket in zip(sids, (mallory, alice), strict=True):
            asking = asyncio.create_task(sio.call("again", to=sid, timeout=2))
            number, _, question = (await websocket.receive_str())[2:].partition("[")
            assert question == '"again"]'
            await websocket.send_str(f'43{number}["Still here"]')
            assert await asking == "Still here"
            await websocket.close()
