"""Engine.IO, version 4, as specified: opening, messages, pings and closing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.support.echo import (
    HURRIED,
    INTERVAL_S,
    SEPARATOR,
    TIMEOUT_S,
    Raw,
    closed,
    engine,
    serving,
)

POLLING = "?EIO=4&transport=polling"
GONE = (400, '{"code":1,"message":"Session ID unknown"}')


@pytest.fixture
async def raw(session: aiohttp.ClientSession) -> AsyncIterator[Raw]:
    async with serving(engine()) as url:
        yield Raw(url, session)


@pytest.fixture
async def hurried(session: aiohttp.ClientSession) -> AsyncIterator[Raw]:
    async with serving(engine(**HURRIED)) as url:
        yield Raw(url, session)


OPENED = {"pingInterval": 300, "pingTimeout": 200, "maxPayload": 1000000}


# --- handshake --------------------------------------------------------------------------------------


async def test_a_session_opens_over_either_transport(hurried: Raw) -> None:
    raw = hurried
    await raw.open()
    assert raw.opened == {"sid": raw.sid, "upgrades": ["websocket"], **OPENED}
    async with raw.websocket() as websocket:
        said = await websocket.receive_str()
        opened = json.loads(said[1:])
        assert said[0] == "0"
        assert opened == {"sid": opened["sid"], "upgrades": [], **OPENED}
        assert opened["sid"] != raw.sid


@pytest.mark.parametrize(
    ("method", "query", "code", "message"),
    [
        ("GET", "", 0, "Transport unknown"),
        ("GET", "?EIO=4", 0, "Transport unknown"),
        ("GET", "?EIO=4&transport=abc", 0, "Transport unknown"),
        ("GET", "?EIO=4&transport=", 0, "Transport unknown"),
        ("GET", POLLING + "&sid=abc", 1, "Session ID unknown"),
        ("POST", POLLING + "&sid=abc", 1, "Session ID unknown"),
        ("POST", POLLING, 2, "Bad handshake method"),
        ("PUT", POLLING, 2, "Bad handshake method"),
        ("DELETE", POLLING, 2, "Bad handshake method"),
        ("PATCH", POLLING, 2, "Bad handshake method"),
        ("GET", "?EIO=4&transport=websocket", 3, "Bad request"),
        ("GET", "?transport=polling", 5, "Unsupported protocol version"),
        ("GET", "?EIO=abc&transport=polling", 5, "Unsupported protocol version"),
        ("GET", "?EIO=3&transport=polling", 5, "Unsupported protocol version"),
        ("GET", "?EIO=5&transport=polling", 5, "Unsupported protocol version"),
    ],
)
async def test_an_invalid_handshake_is_refused_with_the_reason(
    raw: Raw, method: str, query: str, code: int, message: str
) -> None:
    assert await raw.ask(method, query) == (400, f'{{"code":{code},"message":"{message}"}}')


@pytest.mark.parametrize("query", ["?EIO=4", "?EIO=4&transport=abc", "?transport=websocket",
                                   "?EIO=abc&transport=websocket", POLLING])  # fmt: skip
async def test_a_websocket_with_an_invalid_handshake_is_refused(raw: Raw, query: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await raw.session.ws_connect(raw.url + query)
    assert refused.value.status == 400


async def test_an_invalid_request_does_not_end_the_session(raw: Raw) -> None:
    sid = await raw.open()
    for method, query in (
        ("GET", f"?transport=polling&sid={sid}"),
        ("POST", f"?transport=polling&sid={sid}"),
        ("GET", f"?EIO=4&transport=websocket&sid={sid}"),
        ("POST", f"?EIO=4&transport=websocket&sid={sid}"),
        ("PUT", f"?EIO=4&transport=polling&sid={sid}"),
    ):
        assert await raw.ask(method, query) == (400, '{"code":3,"message":"Bad request"}')
    # None of these requests ended the session.
    assert await raw.post("4still here") == (200, "ok")
    assert await raw.get() == (200, "4still here")


async def test_only_allowed_origins_are_served(
    session: aiohttp.ClientSession,
) -> None:
    home, elsewhere = {"Origin": "https://home.example"}, {"Origin": "https://elsewhere.example"}
    async with serving(engine(cors_allowed_origins=[home["Origin"]])) as url:
        async with session.options(url + POLLING, headers=home) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == home["Origin"]
        raw = Raw(url, session)
        await raw.open()
        for method, query in (("GET", ""), ("GET", f"&sid={raw.sid}"), ("POST", f"&sid={raw.sid}")):
            where = url + POLLING + query
            async with session.request(method, where, headers=elsewhere, data="4") as answer:
                assert answer.status == 400
                assert "not an accepted origin" in (await answer.json())["message"]
                assert "Access-Control-Allow-Origin" not in answer.headers
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url + "?EIO=4&transport=websocket", headers=elsewhere)
    async with serving(engine(cors_allowed_origins=[])) as url:
        raw = Raw(url, session)  # [] leaves CORS to the application
        await raw.open()
        where = f"{url}{POLLING}&sid={raw.sid}"
        async with session.post(where, headers=elsewhere, data="4") as answer:
            assert answer.status == 200
            assert "Access-Control-Allow-Origin" not in answer.headers


# --- messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packets",
    [["4hello"], ["4test1", "4test2", "4test3"], ["4hello", "bAQIDBA=="], ["4é€👋", "4", "b"]],
)
async def test_the_messages_of_one_post_return_in_one_poll(raw: Raw, packets: list[str]) -> None:
    await raw.open()
    assert await raw.post(*packets) == (200, "ok")
    assert await raw.get() == (200, SEPARATOR.join(packets))


async def test_a_poll_waits_for_a_message(raw: Raw) -> None:
    await raw.open()
    poll = asyncio.create_task(raw.get())
    await asyncio.sleep(0.05)
    assert not poll.done()
    assert await raw.post("4hello") == (200, "ok")
    assert await poll == (200, "4hello")


@pytest.mark.parametrize(
    "body", ["abc", "", "4a\x1e", "\x1e", "7", "9hello", "5", "2probe", "2", "0{}", "bA", "b!!!!",
             b"4\xff", b"4a\x1eb\xc3"]
)  # fmt: skip
async def test_an_invalid_body_ends_the_session(raw: Raw, body: str | bytes) -> None:
    await raw.open()
    status, answer = await raw.ask("POST", f"{POLLING}&sid={raw.sid}", body)
    assert (status, json.loads(answer)["code"]) == (400, 3)
    assert await raw.get() == GONE


async def test_a_body_that_is_too_large_ends_the_session(session: aiohttp.ClientSession) -> None:
    async with serving(engine(max_http_buffer_size=1000)) as url:
        raw = Raw(url, session)
        await raw.open()
        assert raw.opened["maxPayload"] == 1000
        assert await raw.post("4" + "x" * 999) == (200, "ok")
        assert await raw.get() == (200, "4" + "x" * 999)
        assert (await raw.post("4" + "x" * 1000))[0] == 413
        assert await raw.get() == GONE
        async with raw.websocket() as websocket:
            await websocket.receive_str()
            await websocket.send_str("4" + "x" * 2000)
            assert await closed(websocket) == 1009


async def test_two_polls_at_the_same_time_end_the_session(raw: Raw) -> None:
    await raw.open()
    first = asyncio.create_task(raw.get())
    await asyncio.sleep(0.005)
    assert (await raw.get())[0] == 400
    assert await first == (200, "1")
    assert await raw.get() == GONE


async def test_two_posts_at_the_same_time_end_the_session(raw: Raw) -> None:
    await raw.open()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"4hel"
        await go_on.wait()
        yield b"lo"

    first = asyncio.create_task(raw.ask("POST", f"{POLLING}&sid={raw.sid}", slow()))
    await asyncio.sleep(0.02)
    assert (await raw.post("4hello"))[0] == 400
    go_on.set()
    await first
    assert await raw.get() == GONE


async def test_an_aborted_poll_ends_the_session(raw: Raw) -> None:
    await raw.open()
    poll = asyncio.create_task(raw.get())
    await asyncio.sleep(0.005)
    poll.cancel()
    assert (await raw.get())[0] == 400


async def test_frames_carry_text_and_bytes(raw: Raw) -> None:
    async with raw.websocket() as websocket:
        await websocket.receive_str()
        for text in ("4hello", "4", "4é€👋", "4" + "x" * 100_000):
            await websocket.send_str(text)
            assert await websocket.receive_str() == text
        for data in (b"\1\2\3\4", b"", bytes(70_000)):
            await websocket.send_bytes(data)
            assert await websocket.receive_bytes() == data
        await websocket.send_str("4a")
        await websocket.send_bytes(b"b")
        await websocket.send_str("4c")
        came = [(await websocket.receive()).data for _ in range(3)]
        assert came == ["4a", b"b", "4c"]


@pytest.mark.parametrize("text", ["abc", "", "7", "2", "2probe", "5", "0{}", "bAQID"])
async def test_an_invalid_frame_ends_the_session(raw: Raw, text: str) -> None:
    async with raw.websocket() as websocket:
        await websocket.receive_str()
        await websocket.send_str(text)
        assert await closed(websocket) == 1003


# --- heartbeat --------------------------------------------------------------------------------------


async def test_a_client_that_answers_pings_stays_connected(hurried: Raw) -> None:
    raw = hurried

    async def polls() -> None:
        await raw.open()
        for _ in range(3):
            began = time.monotonic()
            assert await raw.get() == (200, "2")
            assert INTERVAL_S * 0.9 < time.monotonic() - began < INTERVAL_S + 0.25
            assert await raw.post("3") == (200, "ok")

    async def hears() -> None:
        async with raw.websocket() as websocket:
            await websocket.receive_str()
            for _ in range(3):
                began = time.monotonic()
                assert await websocket.receive_str() == "2"
                assert INTERVAL_S * 0.9 < time.monotonic() - began < INTERVAL_S + 0.25
                await websocket.send_str("3")

    await asyncio.gather(polls(), hears())


async def test_a_client_that_does_not_answer_pings_is_disconnected(hurried: Raw) -> None:
    raw = hurried

    async def polls_never() -> None:
        await raw.open()
        await asyncio.sleep(INTERVAL_S + TIMEOUT_S)
        assert await raw.get() == GONE

    async def polls() -> None:
        other = Raw(raw.url, raw.session)
        await other.open()
        began = time.monotonic()
        assert await other.get() == (200, "2")
        assert await other.get() == (200, "1")
        assert INTERVAL_S < time.monotonic() - began < INTERVAL_S + TIMEOUT_S + 0.25
        assert await other.get() == GONE

    async def hears() -> None:
        async with raw.websocket() as websocket:
            began = time.monotonic()
            await websocket.receive_str()
            assert await websocket.receive_str() == "2"
            await closed(websocket)
            assert INTERVAL_S < time.monotonic() - began < INTERVAL_S + TIMEOUT_S + 0.25

    async def talks() -> None:
        """A message does not count as a pong."""
        async with raw.websocket() as websocket:
            await websocket.receive_str()
            assert await websocket.receive_str() == "2"
            await websocket.send_str("4hello")
            assert await websocket.receive_str() == "4hello"
            await closed(websocket)

    await asyncio.gather(polls_never(), polls(), hears(), talks())


# --- closing ----------------------------------------------------------------------------------------


async def test_a_client_may_close_its_session(raw: Raw) -> None:
    await raw.open()
    poll = asyncio.create_task(raw.get())
    await asyncio.sleep(0.005)
    assert await raw.post("1") == (200, "ok")
    assert await poll == (200, "6")
    assert await raw.get() == GONE
    assert await raw.post("4hello") == GONE
    async with raw.websocket() as websocket:
        await websocket.receive_str()
        await websocket.send_str("1")
        assert await closed(websocket) == 1000


async def test_a_server_that_closes_tells_its_clients(session: aiohttp.ClientSession) -> None:
    server = engine()
    async with serving(server) as url:
        waits, rests = Raw(url, session), Raw(url, session)
        await waits.open()
        await rests.open()
        poll = asyncio.create_task(waits.get())
        async with waits.websocket() as websocket:
            sid = json.loads((await websocket.receive_str())[1:])["sid"]
            for session_id in (waits.sid, rests.sid, sid):
                await server.send(session_id, "last words")
                await server.disconnect(session_id)
            assert await websocket.receive_str() == "4last words"
            assert await closed(websocket) == 1000
        assert await poll == (200, SEPARATOR.join(["4last words", "1"]))
        # Messages sent between two polls are not lost, either.
        assert await rests.get() == (200, SEPARATOR.join(["4last words", "1"]))
        assert await rests.get() == await waits.get() == GONE
        assert server.sockets == {}
