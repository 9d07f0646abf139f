"""Invalid or oversized frames affect only their sender."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

import aiohttp
import pytest

from tests.conftest import Starter
from tests.support.bare import PING, BareSocket, event, hello
from tests.support.exposition import connections, connections_become
from tests.support.people import People, Person, presence
from tests.support.raw import Wire
from tests.support.servers import ChatServer

# fmt: off
NO_PACKETS = [
    *("", " ", "x", "é", "\0", "7", "8", "9", "b", "bAAAA", "\x1e", "\x1e\x1e", "-1", "null", "[]", "{}"),
    *("0", "00", '0{"sid":"x"}', "2", "2probe", "3probe", "5", "5x", "6", "6noop"),
    *("4", "4 ", "4x", "47", "48", "49", "4-1", "4[]", "4{}", "4null", '4["ping",{}]', "4" * 1000),
    *("42", "42x", "42[", "42{}", "42null", '42"ping"', "42[]", "42[1]", "42[null]", "42[[]]", '42[{"a":1}]'),
    *('42["ping"', '42["ping",]', '42["ping",{}] ', '42 ["ping",{}]', '42["ping",{}]x', "421", "421x"),
    *('42-1["ping"]', '4299999999999999999999["ping"]', '42/x,["ping"]', '42/x,1["ping"]', '42/,1["ping"]'),
    *('42["ping",{},{}]', '42["ping",1]', '42["ping","x"]', '42["ping",[]]', '42["ping",null]', '42["\\ud800"]'),
    *('42["' + "x" * 5000 + '"]', "42" + "[" * 5000, '42["ping",' * 3000, '42["ping",{"\\u0000":1}]'),
    *('42["connect"]', '42["disconnect","x"]', '42["error"]', '42["*"]', '42["__proto__",{"__proto__":{}}]'),
    *("43", "43[]", "430[]", "431[]", '43["x"]', "439999999999999[]", "43/x,1[]", "44", "44{}", '44"x"'),
    *("45", "45-", "451", "451-", "45-[]", "451-[]", '45["ping"]', "459999999999-[]", '451-["x"', "4500000-[]"),
    *("46", "461-[]", "461-1[]", '461-0[{"_placeholder":true,"num":0}]', '46999999-["x"]'),
    *("40", "40{", "40x", "40[]", "40null", "401", "40/", "40/admin", "40/admin,", "40/admin,{}", "40/,{}", "40,{}"),
    *('40{"token":1}', '40{"token":null}', '40{"sid":"x"}', "41/admin", "41/admin,", "41x", "411"),
]
# fmt: on


async def is_well(person: Person, talk: dict[str, object]) -> None:
    """Check that another client is served as usual."""
    wire = await Wire.connect(person)
    assert (await (await wire.say(talk, "Still here")))["ok"]
    await wire.close()


@pytest.fixture
async def crowd(start: Starter, people_of: Callable[[ChatServer], People]) -> People:
    """People on a server whose log must not contain a traceback."""
    return people_of(await start(LOG_LEVEL="warning"))


async def test_no_text_frame_does_harm(crowd: People) -> None:
    mallory, alice, bob = crowd("mallory", "alice", "bob")
    talk = await alice.group(bob, mallory)
    listener = await Wire.connect(bob)

    async def throw(text: str, *, introduced: bool) -> None:
        wire = await (Wire.connect(mallory) if introduced else Wire.open(mallory))
        with contextlib.suppress(ConnectionError):  # it may be closed already
            await wire.write(text)
            await wire.write(event(7, "ping"))
            if not introduced:
                await wire.introduce()
                await wire.write(event(7, "ping"))
        # The client is disconnected, or continues as if the frame had not been sent.
        await wire.until(
            lambda: (
                wire.gone.is_set()
                or "7" in str(wire.answered)
                or "connected" in wire.names
                or wire.frames[1:]
            )
        )
        await wire.close()

    for introduced in (True, False):
        for at in range(0, len(NO_PACKETS), 20):
            await asyncio.gather(
                *[throw(text, introduced=introduced) for text in NO_PACKETS[at : at + 20]]
            )
    await is_well(alice, talk)
    await listener.caught_up()
    assert [message["content"] for message in listener.told("message:new")] == ["Still here"]
    assert set(listener.names) <= {"connected", "user:online", "user:offline", "message:new"}
    await connections_become(crowd.server, 1)
    await presence(bob, mallory.id, "offline")
    # The event is sent after the commit.
    await listener.until(
        lambda: (
            [name for name, said in listener.heard if said.get("userId") == mallory.id][-1]
            == "user:offline"
        )
    )
    assert "Traceback" not in crowd.server.log


async def test_no_other_frame_does_harm(crowd: People) -> None:
    mallory, alice, bob = crowd("mallory", "alice", "bob")
    talk = await alice.direct(bob)
    not_utf8 = await BareSocket.connect(mallory)
    await not_utf8.write(b'42["ping",{"a":"\xff\xfe"}]')
    await not_utf8.write(b"4\xff")
    assert await not_utf8.close_code() is not None
    for first in (0x80, 0x83, 0x87, 0x8B, 0x8F, 0xC1, 0xA1, 0x91, 0xF1, 0x08, 0x09):
        # Continuation of nothing, unknown opcodes, reserved bits, control frames in pieces.
        odd = await BareSocket.connect(mallory)
        await odd.write("x", first=first)
        assert await odd.close_code() in (1002, 1003)
    long_ping = await BareSocket.connect(mallory)
    await long_ping.write("x" * 126, PING)
    assert await long_ping.close_code() == 1002
    for half in (
        b"\x81",
        b"\x81\xfe",
        b"\x81\xff\0\0\0\0",
        b"\x81\x85\0\0\0\0xx",
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        cut = await BareSocket.connect(mallory)
        cut.writer.write(half)
        await cut.writer.drain()
        cut.abort()
    await is_well(alice, talk)
    await connections_become(crowd.server, 0)


async def test_a_frame_that_is_too_large_is_not_read(crowd: People) -> None:
    mallory, alice = crowd("mallory", "alice")
    talk = await alice.direct(mallory)
    wire = await Wire.connect(mallory)
    # Larger than an event may be, but a valid packet: it is refused, and the connection stays.
    large = {"conversationId": talk["id"], "content": "x" * 70_000}
    answer = await (await wire.ask("message:send", large))
    assert answer is not None
    assert (answer["ok"], answer["error"]["code"]) == (False, "PAYLOAD_TOO_LARGE")
    await wire.caught_up()
    await wire.write("42" + json.dumps(["message:send", large | {"content": "x" * 300_000}]))
    assert await wire.ended() == 1009

    # The limit also applies to a message in several frames.
    pieces = await BareSocket.connect(mallory)
    await pieces.write('42["ping",{"a":"', first=0x01)
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            await pieces.write("x" * 60_000, first=0x00)
    assert await pieces.close_code() in (1009, None)
    # The announced length is enough: the server does not allocate memory for it.
    vast = await BareSocket.connect(mallory)
    vast.writer.write(b"\x81\xff" + (2**62).to_bytes(8, "big") + bytes(4) + b"42")
    assert await vast.close_code() in (1002, 1009)
    await connections_become(crowd.server, 0)


async def test_attachments_are_refused_and_not_waited_for(crowd: People) -> None:
    mallory, alice = crowd("mallory", "alice")
    talk = await alice.direct(mallory)
    wire = await Wire.connect(mallory)
    payload = {"conversationId": talk["id"], "content": {"_placeholder": True, "num": 0}}
    await wire.write("451-9" + json.dumps(["message:send", payload]))
    await wire.until(lambda: 9 in wire.answered)
    assert wire.answered[9]["error"]["code"] == "VALIDATION_FAILED"
    for size in (0, 1, 10, 100_000):
        await wire.websocket.send_bytes(b"x" * size)
    await wire.write("4510-" + json.dumps(["message:send", payload]))
    await wire.until(lambda: wire.told("error"))
    assert wire.told("error")[0]["code"] == "VALIDATION_FAILED"
    await wire.caught_up()
    bare = await BareSocket.connect(mallory)
    await bare.write("459999999999-" + json.dumps(["message:send", payload]))
    assert await bare.close_code() == 1003
    await wire.close()


async def test_connecting_twice_makes_one_client(crowd: People) -> None:
    """Several CONNECTs at the same time, another one while connected, and another one after DISCONNECT."""
    mallory, bob = crowd("mallory", "bob")
    talk = await bob.direct(mallory)
    listener = await Wire.connect(bob)
    wires = [await Wire.open(mallory) for _ in range(4)]
    for wire in wires:
        for _ in range(3):
            await wire.introduce()
    for wire in wires:
        await wire.until(lambda wire=wire: "connected" in wire.names)
        await wire.caught_up()
        assert wire.names.count("connected") == 1
        await wire.introduce()
        await wire.caught_up()
    sent = (await (await listener.say(talk, "Once each")))["data"]
    for wire in wires:
        await wire.caught_up()
        assert wire.told("message:new") == [sent]
        await wire.write("41")
        await wire.introduce()
        await wire.until(lambda wire=wire: wire.names.count("connected") == 2)
    await listener.until(lambda: listener.told("user:online"))
    for wire in wires:
        await wire.close()
    await listener.until(lambda: listener.told("user:offline"))
    assert len(listener.told("user:online")) == 1
    assert (await bob.ask("GET", f"/users/{mallory.id}/presence"))["status"] == "offline"
    assert await connections(crowd.server) == 1


async def test_a_client_that_disconnects_while_connecting_is_offline(crowd: People) -> None:
    mallory, bob = crowd("mallory", "bob")
    await bob.direct(mallory)
    listener = await Wire.connect(bob)
    for delay in range(12):
        bare = await BareSocket.open(mallory)
        await bare.write(hello(mallory))
        await asyncio.sleep(delay * 0.001)
        bare.abort()
    await connections_become(crowd.server, 1)
    await presence(bob, mallory.id, "offline")
    await listener.caught_up()
    assert len(listener.told("user:online")) - len(listener.told("user:offline")) in (0, 1)


async def test_an_invalid_handshake_leaves_nothing_behind(crowd: People) -> None:
    base = f"{crowd.server.sockets}/socket.io/"
    session = crowd.session
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    ws = "?EIO=4&transport=websocket"
    requests = [
        ("GET", "", {}), ("GET", "?EIO=3&transport=polling", {}), ("GET", "?EIO=x&transport=polling", {}),
        ("GET", "?EIO=4&transport=x", {}), ("GET", ws, {}), ("GET", ws, upgrade),
        ("GET", ws, upgrade | {"Sec-WebSocket-Key": "x"}), ("GET", ws, upgrade | {"Sec-WebSocket-Version": "1"}),
        ("GET", "?EIO=4&transport=polling&sid=x", {}), ("POST", "?EIO=4&transport=polling&sid=x", {}),
        ("POST", "?EIO=4&transport=polling", {}), ("GET", "?EIO=4&transport=polling&sid=%00%ff", {}),
        ("GET", "?EIO=4&transport=polling&j=x", {}), ("PUT", "?EIO=4&transport=polling", {}),
        ("GET", "?EIO=4&transport=polling&sid=" + "x" * 6000, {}),
    ]  # fmt: skip
    for method, query, headers in requests:
        async with session.request(method, base + query, headers=headers) as answer:
            assert 400 <= answer.status < 500, (method, query, headers, answer.status)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await session.ws_connect(base + ws + "&sid=x")
    await connections_become(crowd.server, 0, within=1)
    assert "Traceback" not in crowd.server.log
