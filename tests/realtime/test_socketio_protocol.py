"""Socket.IO, version 5, as specified: namespaces, events, acknowledgements, attachments."""

from __future__ import annotations

import asyncio
import binascii
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support.bare import BareSocket
from tests.support.echo import HURRIED, SEPARATOR, Raw, closed, realtime, serving
from tests.support.patience import PATIENCE_S, slowness

Frame = str | bytes


class Client:
    """A client on either transport, packet by packet. It answers pings and does not return them."""

    def __init__(self, raw: Raw, websocket: aiohttp.ClientWebSocketResponse | None) -> None:
        self.raw = raw
        self.websocket = websocket
        self._came: list[str] = []

    async def send(self, *packets: Frame) -> None:
        if self.websocket is None:
            encoded = [packet if isinstance(packet, str) else base64(packet) for packet in packets]
            assert await self.raw.post(*encoded) == (200, "ok")
            return
        for packet in packets:
            if isinstance(packet, str):
                await self.websocket.send_str(packet)
            else:
                await self.websocket.send_bytes(packet)

    async def next(self) -> Frame:
        while True:
            came = await self._next()
            if came != "2":
                return came
            await self.send("3")

    async def _next(self) -> Frame:
        if self.websocket is not None:
            message = await self.websocket.receive(timeout=2)
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
            return message.data  # type: ignore[no-any-return]
        if not self._came:
            status, body = await self.raw.get()
            assert status == 200, body
            self._came = body.split(SEPARATOR)
        packet = self._came.pop(0)
        return bytes_of(packet) if packet[:1] == "b" else packet

    async def is_closed(self) -> bool:
        """Wait for the server to end the session."""
        if self.websocket is not None:
            await closed(self.websocket)
            return True
        async with asyncio.timeout(PATIENCE_S):
            while (await self.raw.get())[0] == 200:
                pass
        return True

    async def goes_on_until_closed(self) -> None:
        """Answer pings, and nothing else, until the server ends the session."""
        while True:
            try:
                await self.next()
            except AssertionError:
                return

    async def enter(self, namespace: str = "", auth: str = "") -> str:
        """Connect to a namespace. Returns the id of the socket in it."""
        await self.send(f"40{namespace}{auth}")
        head = f"40{namespace}"
        answer = await self.next()
        assert isinstance(answer, str)
        assert answer.startswith(head)
        granted = json.loads(answer[len(head) :])
        assert list(granted) == ["sid"]
        assert await self.next() == f'42{namespace}["auth",{auth or "{}"}]'
        return str(granted["sid"])


def base64(data: bytes) -> str:
    return "b" + binascii.b2a_base64(data, newline=False).decode()


def bytes_of(packet: str) -> bytes:
    return binascii.a2b_base64(packet[1:])


@asynccontextmanager
async def a_client(transport: str, **options: Any) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(PATIENCE_S)
    async with (
        serving(realtime(**options)) as url,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        raw = Raw(url, session)
        if transport == "polling":
            await raw.open()
            yield Client(raw, None)
        elif transport == "websocket":
            async with raw.websocket() as websocket:
                assert (await websocket.receive_str())[0] == "0"
                yield Client(raw, websocket)
        else:
            await raw.open()
            async with raw.websocket(raw.sid) as websocket:
                await websocket.send_str("2probe")
                assert await websocket.receive_str() == "3probe"
                await websocket.send_str("5")
                yield Client(raw, websocket)


@pytest.fixture(params=["polling", "websocket", "upgraded"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(transport: str) -> AsyncIterator[Client]:
    async with a_client(transport) as client:
        yield client


@pytest.fixture
async def hurried(transport: str) -> AsyncIterator[Client]:
    async with a_client(transport, connect_timeout=1.0, **HURRIED) as client:
        yield client


# --- connecting -------------------------------------------------------------------------------------


async def test_a_client_enters_namespaces_with_its_auth(client: Client) -> None:
    here = await client.enter()
    there = await client.enter("/custom,", '{"token":"abc"}')
    assert here != there


async def test_a_client_may_enter_another_namespace_first(client: Client) -> None:
    await client.enter("/custom,")
    await client.send('42/custom,["message","hello"]')
    assert await client.next() == '42/custom,["message-back","hello"]'


async def test_an_unknown_namespace_is_refused(client: Client) -> None:
    for wanted, name in (("/random", "/random"), ("/random,", "/random"), ("/,{}", "/"),
                         ("/random?token=x", "/random"), ('/Custom,{"a":1}', "/Custom")):  # fmt: skip
        await client.send(f"40{wanted}")
        if name == "/":
            assert str(await client.next()).startswith('40{"sid":')
            assert await client.next() == '42["auth",{}]'
        else:
            assert await client.next() == f'44{name},{{"message":"Invalid namespace"}}'


async def test_a_client_that_enters_twice_is_in_once(client: Client) -> None:
    await client.enter()
    await client.send("40", "40", '42["message",1]')
    assert await client.next() == '42["message-back",1]'


async def test_a_client_that_sends_no_connect_is_closed(hurried: Client) -> None:
    """Answering pings is not enough."""
    client = hurried
    began = time.monotonic()
    await client.goes_on_until_closed()
    assert 0.8 < time.monotonic() - began < 2 * slowness()


async def test_an_event_after_connect_arrives_in_a_read_of_its_own() -> None:
    """A client that listens for one message at a time receives both. Later packets do not overtake."""
    async with serving(realtime()) as url:
        bare = await BareSocket.open_at(url)
        assert (await bare.frame())[1][:1] == b"0"
        for packet in ("40", '42["message","soon"]', '427["message-with-ack"]'):
            await bare.write(packet)
        async with asyncio.timeout(PATIENCE_S):
            first = await bare.reader.read(65536)
            assert re.fullmatch(rb'\x81.40\{"sid":"[^"]+"\}', first, re.DOTALL)
            heard = [(await bare.frame())[1] for _ in range(3)]
        assert heard == [b'42["auth",{}]', b'42["message-back","soon"]', b"437[]"]
        bare.abort()


@pytest.mark.parametrize("said", ['42["message",1]', "41", "430[]", '451-["message"]', "4abc", "4",
                                  "40[]", '40"x"', "44", "40{"])  # fmt: skip
async def test_a_client_that_sends_another_packet_first_is_closed(
    client: Client, said: str
) -> None:
    await client.send(said)
    assert await client.is_closed()


# --- disconnecting ----------------------------------------------------------------------------------


async def test_a_client_leaves_one_namespace_and_stays_in_the_other(client: Client) -> None:
    await client.enter()
    await client.enter("/custom,")
    await client.send(
        "41/custom,", '42/custom,["message","lost"]', '42["message","to the main one"]'
    )
    assert await client.next() == '42["message-back","to the main one"]'
    await client.enter("/custom,")
    await client.send("41")
    await client.send('42["message","lost"]', '42/custom,["message","and back"]')
    assert await client.next() == '42/custom,["message-back","and back"]'


async def test_a_client_that_left_all_namespaces_may_return_or_is_closed(hurried: Client) -> None:
    client = hurried
    await client.enter()
    await client.send("41")
    if client.websocket is not None:
        assert await client.websocket.receive_str() == "2", "the connection is kept"
        await client.send("3")
    await client.enter()
    await client.send("41")
    await client.goes_on_until_closed()


# --- events -----------------------------------------------------------------------------------------


async def test_events_have_any_number_of_arguments_of_any_kind(client: Client) -> None:
    await client.enter()
    for arguments in (",1", ',1,"2",{"3":[true]}', ",null", ',"é€👋"', ",[]", ',{"a":{"_placeholder":false}}',
                      ',"2-3"', ",1.5", "," + json.dumps("x" * 100_000)):  # fmt: skip
        await client.send(f'42["message"{arguments}]')
        answer = json.loads(str(await client.next())[2:])
        assert answer == ["message-back", *json.loads(f"[0{arguments}]")[1:]]


async def test_events_keep_their_order(client: Client) -> None:
    await client.enter()
    await client.send(*[f'42["message",{n}]' for n in range(300)])
    assert [await client.next() for _ in range(300)] == [
        f'42["message-back",{n}]' for n in range(300)
    ]


async def test_events_carry_attachments(client: Client) -> None:
    await client.enter()
    await client.enter("/custom,")
    two = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    for where in ("", "/custom,"):
        await client.send(f'452-{where}["message",{two}]', b"\1\2\3", b"\4\5\6")
        came = [await client.next() for _ in range(3)]
        assert came == [f'452-{where}["message-back",{two}]', b"\1\2\3", b"\4\5\6"]
    deep = '{"a":[{"b":{"_placeholder":true,"num":0}}]}'
    await client.send(f'451-["message",{deep}]', b"", '42["message","after"]')
    came = [await client.next() for _ in range(3)]
    assert came == [f'451-["message-back",{deep}]', b"", '42["message-back","after"]']


async def test_events_are_acknowledged(client: Client) -> None:
    await client.enter()
    await client.enter("/custom,")
    await client.send('42456["message-with-ack",1,"2",{"3":[false]}]')
    assert await client.next() == '43456[1,"2",{"3":[false]}]'
    await client.send('420["message-with-ack"]', '42/custom,7["message-with-ack","x"]')
    assert [await client.next(), await client.next()] == ["430[]", '43/custom,7["x"]']
    two = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'
    await client.send(f'452-789["message-with-ack",{two}]', b"\1\2\3", b"\4\5\6")
    came = [await client.next() for _ in range(3)]
    assert came == [f"462-789[{two}]", b"\1\2\3", b"\4\5\6"]


@pytest.mark.parametrize("packets", [
    ["4abc"], ["4"], ["47"], ["4-1"], ["4["], ["42"], ["42{}"], ["42[]"], ['42"message"'], ["42[1"], ["42[true]"],
    ["42[null]"], ['42abc["message-with-ack",1]'], ['42["connect",1]'], ['42["disconnect"]'],
    ["43"], ["431"], ["431{}"], ["44"], ['44{"message":"x"}'], ["41{}"], ["40[]"], ['42-1["message"]'],
    ["45"], ["45[]"], ['45["message"]'], ['450-["message"]'], ['4511-["message"]'], ["451-{}"], ["461-1{}"],
    ['451-["message",{"_placeholder":true,"num":1}]', b"x"], ['451-["message",{"_placeholder":true,"num":"a"}]', b"x"],
    ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'], [b"x"], [b'2["message"]'],
    ["4299999999999999999999" * 8 + '["message"]'], ["42" + "[" * 50_000],
])  # fmt: skip
async def test_an_invalid_packet_ends_the_session(client: Client, packets: list[Frame]) -> None:
    await client.enter()
    await client.send(*packets)
    assert await client.is_closed()


async def test_packets_without_an_effect_are_ignored(client: Client) -> None:
    """Acknowledgements that were not requested, events without a handler, namespaces that were not entered."""
    await client.enter()
    await client.send(
        "430[]", "431[]", "43[]", "4312345678[1]", '461-5[{"_placeholder":true,"num":0}]', b"x"
    )
    await client.send(
        '42["unknown",1]', '42["__proto__",{}]', "42[7]", '42/custom,["message"]', "41/custom"
    )
    await client.send('42["message","still here"]')
    assert await client.next() == '42["message-back","still here"]'
