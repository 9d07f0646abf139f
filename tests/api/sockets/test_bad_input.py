"""Invalid input over sockets is refused by name, in one shape, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.people import Device, People, Refused, devices
from tests.support.rows import DEEP, EVENTS, OPERATOR, Event, names, set_scene
from tests.support.shapes import error, message

PAYLOADS: list[Any] = ["x", 1, 1.5, True, [], [1], "\ud800", "", DEEP, [OPERATOR], float("nan")]


async def heard(device: Device) -> list[str]:
    await device.caught_up()
    return [name for name, _ in device.heard if name not in ("connected", "user:online")]


def shape(refusal: Refused, code: str = "VALIDATION_FAILED") -> None:
    details = {key: value for key, value in refusal.error.items() if key == "details"}
    assert refusal.error == error(code, **details)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
async def test_each_wrong_field_of_an_event_is_named(people: People, event: Event) -> None:
    scene = await set_scene(people)
    desk, phone = await devices(scene.alice, scene.bob)
    right = event.needs(scene)
    state = await scene.state()
    for field, wrongs in event.fields.items():
        for wrong in wrongs:
            refusal = await desk.refused(event.name, {**right, field: wrong})
            assert names(refusal.error, field), (field, wrong, refusal.error)
            shape(refusal)
    for field in right:
        rest = {key: value for key, value in right.items() if key != field}
        if field in event.fields or field in ("content", "emoji"):
            refusal = await desk.refused(event.name, rest)
            assert names(refusal.error, field) or names(refusal.error, "lastMessageId"), field
    for key in ("colour", "$gt", "$where", "a.b", "__proto__", "", "userId", "senderId", "\ud800"):
        for value in (1, None, OPERATOR):
            refusal = await desk.refused(event.name, {**right, key: value})
            assert refusal.details == {key.replace("\ud800", "?"): ["Unknown field."]}
    for payload in PAYLOADS:
        shape(await desk.refused(event.name, (payload,)))
    shape(await desk.refused(event.name, (right, right)))
    assert await scene.state() == state
    assert await heard(desk) == []
    assert await heard(phone) == []


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
async def test_a_packet_has_at_most_64_kib(people: People, event: Event) -> None:
    scene = await set_scene(people)
    desk, poll = await scene.alice.connect(), await scene.alice.connect("polling")
    state = await scene.state()
    for device in (desk, poll):
        refusal = await device.refused(event.name, {**event.needs(scene), "more": "x" * 65_536})
        shape(refusal, "PAYLOAD_TOO_LARGE")
    assert await scene.state() == state
    await desk.caught_up()
    await poll.caught_up()


@pytest.mark.parametrize(
    "event",
    ["nonsense", "", "message", "message:", "connect", "disconnect", "*", "$gt", "x" * 500, "\0"],
    ids=lambda text: ascii(text[:20]),
)
async def test_an_event_that_does_not_exist_is_refused(people: People, event: str) -> None:
    alice = people("alice")
    desk = await alice.connect()
    packets = {
        1: f"421{json.dumps([event, {}])}",
        2: f"422{json.dumps([event])}",
        0: f"42{json.dumps([event, {'token': 'x'}])}",
    }
    for packet in packets.values():
        await raw(desk, packet)
    told = await desk.hears("error")
    assert told == error("VALIDATION_FAILED", details=told["details"], event=told["event"])
    assert list(told["details"]) == ["event"]
    assert told["event"] == event[: len(told["event"])] or not event
    assert desk.client.connected


async def raw(device: Device, packet: str) -> None:
    """Sends this text over the WebSocket as an Engine.IO packet."""
    await device.client.eio.ws.send_str(packet)


async def test_without_a_callback_a_refusal_arrives_as_an_error_event(people: People) -> None:
    scene = await set_scene(people)
    desk, phone = await devices(scene.alice, scene.bob)
    for event, payload, field in [
        ("message:send", {"conversationId": OPERATOR, "content": "x"}, "conversationId"),
        ("reaction:add", {"messageId": scene.message["id"], "emoji": "x"}, "emoji"),
        ("typing:start", {"conversationId": scene.talk["id"], "$gt": ""}, "$gt"),
        ("messages:sync", {"conversationId": scene.talk["id"]}, "lastMessageId"),
    ]:
        await desk.client.emit(event, payload)
        told = await desk.hears("error")
        assert told == error("VALIDATION_FAILED", event=event, details=told["details"])
        assert names(told, field)
    await desk.client.emit("message:send", {"conversationId": "0" * 24, "content": "x"})
    assert await desk.hears("error") == error("NOT_FOUND", event="message:send")
    assert await heard(phone) == []


async def test_bytes_are_refused(people: People) -> None:
    scene = await set_scene(people)
    desk, phone = await devices(scene.alice, scene.bob)
    for payload in (b"x", {"conversationId": scene.talk["id"], "content": b"x"}):
        shape(await desk.refused("message:send", payload))
    assert await heard(phone) == []


NOT_JSON = ["{", '["message:send",', '["message:send",{]', "[]", "[1]", "[null,{}]", "[{}]", "[[]]"]
NOT_JSON += ["[" * 30_000, '["message:send",' + "[" * 20_000 + "]" * 20_000 + "]"]
NOT_JSON += [
    '["message:send",' + '{"a":' * 9000 + "1" + "}" * 9000 + "]",
    '["x",NaN',
    "[9" + "9" * 5000,
]


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: text[:20])
async def test_text_that_is_not_an_event_is_refused_or_closes_the_socket(
    people: People, text: str
) -> None:
    scene = await set_scene(people)
    desk, phone, other = await devices(scene.alice, scene.bob, scene.alice)
    state = await scene.state()
    for packet in (f"42{text}", f"427{text}"):
        await raw(desk, packet)
    if text.startswith("["):
        told = await desk.hears("error")
        assert told == {**error("VALIDATION_FAILED"), "event": told["event"], **told}
        await desk.caught_up()
    else:
        await asyncio.wait_for(desk.gone.wait(), 5)
    assert await scene.state() == state
    assert await heard(other) == await heard(phone) == []


FRAMES = ["", "x", "9", "4", "4x", "49", "42", "42x", "41x", "40{", "40/admin,", "45", "45-["]
FRAMES += ["451-", "4\0", "46999999999-[]", "42" + "1" * 40 + '["ping"]', "2", "3x", "5", "6"]
FRAMES += ["b" + "A" * 40, "\ud7ff"]


@pytest.mark.parametrize("frame", FRAMES, ids=ascii)
async def test_a_nonsense_frame_closes_at_most_its_own_socket(people: People, frame: str) -> None:
    scene = await set_scene(people)
    desk, phone, other = await devices(scene.alice, scene.bob, scene.alice)
    await raw(desk, frame)
    await asyncio.wait([asyncio.create_task(desk.gone.wait())], timeout=0.05)
    # The person's other sockets, and everybody else, are not affected.
    sent = await other.say(scene.talk, "Still here")
    assert await phone.hears("message:new") == sent
    if not desk.gone.is_set() and desk.client.connected:
        assert await desk.hears("message:new") == sent


async def test_unusual_texts_are_accepted(people: People) -> None:
    scene = await set_scene(people)
    desk, phone = await devices(scene.alice, scene.bob)
    texts = ["a\0b", "\u202e\u2066x", "\ufeffx", "\uffff", "e\u0301" * 100, "Z" + "\u0335" * 500]
    texts += ["</script>", '{"$gt": ""}', "\\u0000", "\x7f\x1b[31m", "💥" * 1000, "\u2028\u2029x"]
    for seq, text in enumerate(texts, start=2):
        sent = await desk.say(scene.talk, text, metadata={text[:50]: text[:50]}, mentions=["x y"])
        assert sent == message(
            conversationId=scene.talk["id"],
            seq=seq,
            rev=seq,
            senderId=scene.alice.id,
            content=text,
            metadata={text[:50]: text[:50]},
            mentions=["x y"],
        )
        assert await phone.hears("message:new") == sent
    items = (await scene.bob.ask("GET", f"/conversations/{scene.talk['id']}/messages"))["items"]
    assert [message["content"] for message in items[1:]] == texts


UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"


async def test_malformed_http_disturbs_nobody(people: People) -> None:
    scene = await set_scene(people)
    phone = await scene.bob.connect()
    host = b"Host: x\r\n"
    requests = [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"GET / HTTP/9.9\r\n" + host + b"\r\n",
        b"GET /\0 HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /%ff%fe?%ff=%fe HTTP/1.1\r\n" + host + b"\r\n",
        b"GET http://[ HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /health HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"POST /api/conversations HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n",
        b"POST /api/conversations HTTP/1.1\r\n" + host + b"Content-Length: 5\r\n\r\nab",
        b"POST /api/conversations HTTP/1.1\r\n"
        + host
        + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/conversations HTTP/1.1\r\n"
        + host
        + b"Expect: nonsense\r\nContent-Length: 2\r\n\r\n",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
        + host
        + b"Upgrade: websocket\r\n\r\n",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + host + UPGRADE + b"\r\n",
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
        + (host + UPGRADE + b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"),
        b"GET /socket.io/?EIO=4&transport=nonsense HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /socket.io/?EIO=3&transport=polling HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /socket.io/?EIO=4&transport=polling&sid=nonsense HTTP/1.1\r\n" + host + b"\r\n",
        b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n"
        + host
        + b"Content-Length: 2\r\n\r\n40",
        b"DELETE /socket.io/ HTTP/1.1\r\n" + host + b"\r\n",
    ]

    async def send(port: int, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        writer.write_eof()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read(20)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    ports = (people.server.port, people.server.ws_port)
    answers = await asyncio.gather(*[send(port, request) for port in ports for request in requests])
    assert all(not answer or answer.startswith(b"HTTP/1.") for answer in answers)
    assert not any(b" 500" in answer for answer in answers)
    desk = await scene.alice.connect()
    sent = await desk.say(scene.talk, "Still here")
    assert await phone.hears("message:new") == sent


async def test_a_number_without_a_fraction_is_an_integer(people: People) -> None:
    scene = await set_scene(people)
    desk = await scene.alice.connect()
    talk = {"conversationId": scene.talk["id"]}
    page = await desk.do("messages:sync", {**talk, "afterSeq": 0.0, "limit": 2.0})
    assert len(page["messages"]) == 1
    file = {"type": "video", "url": "https://files.example/v", "size": 5.0, "width": 3e2}
    sent = await desk.say(scene.talk, "", attachments=[file])
    # Stored as whole numbers: some clients take 5.0 for something else.
    assert json.dumps(sent["attachments"][0]) == json.dumps({**file, "size": 5, "width": 300})
    for wrong in (2.5, 1e300, -1.0, 0.0, float("inf"), float("nan"), "2.0", True):
        refusal = await desk.refused("messages:sync", {**talk, "afterSeq": 0, "limit": wrong})
        assert list(refusal.details) == ["limit"], wrong
