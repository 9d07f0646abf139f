"""Engine.IO, version 4: the upgrade from long polling to WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.echo import SEPARATOR, Raw, closed, engine, serving


@pytest.fixture
async def raw(session: aiohttp.ClientSession) -> AsyncIterator[Raw]:
    async with serving(engine(upgrade_timeout=0.2)) as url:
        raw = Raw(url, session)
        await raw.open()
        yield raw


BAD_REQUEST = (400, '{"code":3,"message":"Bad request"}')


async def probe(websocket: aiohttp.ClientWebSocketResponse) -> None:
    await websocket.send_str("2probe")
    assert await websocket.receive_str() == "3probe"


async def test_a_session_upgrades_to_a_websocket(raw: Raw) -> None:
    async with raw.websocket(raw.sid) as websocket:
        await probe(websocket)
        # A waiting poll is answered, so that the client can stop polling.
        assert await raw.get() == (200, "6")
        await websocket.send_str("5")
        await websocket.send_str("4hello")
        assert await websocket.receive_str() == "4hello"


async def test_a_waiting_poll_ends_with_the_probe(raw: Raw) -> None:
    poll = asyncio.create_task(raw.get())
    await asyncio.sleep(0.02)
    async with raw.websocket(raw.sid) as websocket:
        await asyncio.sleep(0.02)
        assert not poll.done(), "opening a WebSocket is not a probe"
        await probe(websocket)
        assert await poll == (200, "6")


async def test_a_waiting_poll_ends_with_the_upgrade(raw: Raw) -> None:
    """A client must not poll then, but the poll does not hang."""
    async with raw.websocket(raw.sid) as websocket:
        poll = asyncio.create_task(raw.get())
        await asyncio.sleep(0.02)
        await websocket.send_str("5")
        await websocket.send_str("4hello")
        assert await websocket.receive_str() == "4hello"
        assert await poll == (200, "6")


async def test_messages_keep_their_order_through_the_upgrade(raw: Raw) -> None:
    poll = asyncio.create_task(raw.get())
    await asyncio.sleep(0.02)
    async with raw.websocket(raw.sid) as websocket:
        await probe(websocket)
        assert await poll == (200, "6")
        assert await raw.post("4polled 1", "4polled 2") == (200, "ok")
        assert await raw.get() == (200, SEPARATOR.join(["4polled 1", "4polled 2"]))
        assert await raw.post("4waiting 1", "bAQID") == (200, "ok")
        await websocket.send_str("5")
        await websocket.send_str("4after")
        came = [(await websocket.receive()).data for _ in range(3)]
        assert came == ["4waiting 1", b"\1\2\3", "4after"]


async def test_after_the_upgrade_there_is_only_the_websocket(raw: Raw) -> None:
    async with raw.websocket(raw.sid) as websocket:
        await probe(websocket)
        await websocket.send_str("5")
        assert await raw.get() == BAD_REQUEST
        assert await raw.post("4hello") == BAD_REQUEST
        # The handshake succeeds and the WebSocket is then closed: clients other than browsers take a
        # refused handshake for a network failure.
        async with raw.websocket(raw.sid) as second:
            assert await closed(second) == 1008
        await websocket.send_str("4hello")
        assert await websocket.receive_str() == "4hello"
        for again in ("2probe",):
            await websocket.send_str(again)
        assert await closed(websocket) == 1003
    assert await raw.get() == (400, '{"code":1,"message":"Session ID unknown"}')


async def test_there_is_one_probe_at_a_time(raw: Raw) -> None:
    async with raw.websocket(raw.sid) as first:
        # The handshake succeeds and the WebSocket is then closed: clients other than browsers take a
        # refused handshake for a network failure.
        async with raw.websocket(raw.sid) as second:
            assert await closed(second) == 1008
        await probe(first)
        await first.send_str("5")
        await first.send_str("4hello")
        assert await first.receive_str() == "4hello"


@pytest.mark.parametrize(
    "words", [[], ["2probe"], ["x"], ["2"], ["2other"], ["3"], ["1"], ["4hello"], ["2probe", "4hello"]]
)  # fmt: skip
async def test_a_probe_that_fails_leaves_the_session_polling(raw: Raw, words: list[str]) -> None:
    """The client sends an invalid packet on the WebSocket, or nothing for too long."""
    async with raw.websocket(raw.sid) as websocket:
        for word in words:
            await websocket.send_str(word)
        assert await closed(websocket) in (1003, 1008)
    assert await raw.post("4hello") == (200, "ok")
    assert await raw.get() == (200, "4hello")
    async with raw.websocket(raw.sid) as websocket:
        await probe(websocket)
        await websocket.send_str("5")
        await websocket.send_str("4over")
        assert await websocket.receive_str() == "4over"


async def test_bytes_are_refused_before_the_upgrade(raw: Raw) -> None:
    async with raw.websocket(raw.sid) as websocket:
        await websocket.send_bytes(b"\1\2")
        assert await closed(websocket) == 1003
    assert await raw.post("4hello") == (200, "ok")
    assert await raw.get() == (200, "4hello")


async def test_a_probe_ends_with_its_session(raw: Raw) -> None:
    async with raw.websocket(raw.sid) as websocket:
        await probe(websocket)
        assert await raw.post("1") == (200, "ok")
        assert await closed(websocket) == 1000


async def test_an_upgrade_that_is_not_offered_is_refused(
    session: aiohttp.ClientSession,
) -> None:
    async with serving(engine(allow_upgrades=False)) as url:
        raw = Raw(url, session)
        sid = await raw.open()
        assert raw.opened["upgrades"] == []
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await raw.websocket(sid)
    async with serving(engine(transports=["websocket"])) as url:
        raw = Raw(url, session)
        status, body = await raw.ask("GET", "?EIO=4&transport=polling")
        refused = json.loads(body)
        assert (status, refused["code"]) == (400, 0)
        assert "WebSocket" in refused["message"]
        async with raw.websocket() as websocket:
            assert json.loads((await websocket.receive_str())[1:])["upgrades"] == []
