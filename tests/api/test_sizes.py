"""Limits have room for any script and any encoder: what counts is the text, not how a client escaped it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.people import People
from tests.support.servers import ChatServer

SCRIPTS = {"Latin": "x", "German": "ü", "Hindi": "ह", "emoji": "😀", "control": "\x01"}
SIGNED = (
    "https://my_bucket.storage.example/a%20file.mp4?X-Amz-Security-Token="
    + "IQoJb3JpZ2luX2Vj" * 160
)
assert len(SIGNED) > 2600


@pytest.mark.parametrize("character", SCRIPTS.values(), ids=SCRIPTS)
async def test_the_longest_text_fits_a_packet_in_any_script(people: People, character: str) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    text = character * 10_000
    file = {"type": "video", "url": SIGNED, "name": "ü" * 255}
    more = {"attachments": [file], "clientMessageId": "ü" * 64, "metadata": {"k": "ü" * 900}}
    # python-socketio escapes all that is not ASCII.
    for device in (await alice.connect("websocket"), await alice.connect("polling")):
        sent = await device.say(talk, text, **{**more, "clientMessageId": device.client.sid})
        assert (sent["content"], sent["attachments"]) == (text, [file])
        edited = await device.do("message:edit", {"messageId": sent["id"], "content": text[:-1]})
        assert edited["content"] == text[:-1]
    path = f"/conversations/{talk['id']}/messages"
    ascii_too = '{"content": "%s"}' % (r"\u0078" * 10_000)
    for body in (json.dumps({"content": text, **more}), ascii_too):
        status, _ = await alice.request("POST", path, data=body)
        assert status == 201


async def test_an_escape_counts_as_its_character(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    for large in ("ü" * 33_000, "x" * 65_536, "\\u" * 33_000, "\ud800" * 22_000):
        payload: dict[str, Any] = {"conversationId": talk["id"], "content": large}
        assert (await desk.refused("message:send", payload)).code == "PAYLOAD_TOO_LARGE"
        status, answer = await alice.request(
            "POST", f"/conversations/{talk['id']}/messages", data=json.dumps({"content": large})
        )
        assert (status, answer["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    refusal = await desk.refused("message:send", {**payload, "content": "ü" * 30_000})
    assert list(refusal.details) == ["content"]


async def test_a_server_that_allows_longer_texts_allows_larger_packets(
    start: Callable[..., Awaitable[ChatServer]], people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(MESSAGE_MAX_CHARS="50000"))
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    text = "😀" * 50_000
    for device in (await alice.connect("websocket"), await alice.connect("polling")):
        assert (await device.say(talk, text))["content"] == text
    body = json.dumps({"content": text})
    status, _ = await alice.request("POST", f"/conversations/{talk['id']}/messages", data=body)
    assert status == 201


async def test_urls_of_storage_services_fit(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    longest = SIGNED + "x" * (4096 - len(SIGNED))
    avatar = await alice.ask(
        "PATCH", f"/conversations/{(await alice.group(bob))['id']}", {"avatarUrl": longest}
    )
    assert avatar["avatarUrl"] == longest
    file = {"type": "file", "url": longest, "thumbnailUrl": SIGNED, "name": "x" * 255}
    assert (await desk.say(talk, "", attachments=[file]))["attachments"] == [file]
    for wrong in ({"url": longest + "x"}, {"name": "x" * 256}, {"thumbnailUrl": longest + "x"}):
        refusal = await desk.refused(
            "message:send", {"conversationId": talk["id"], "attachments": [{**file, **wrong}]}
        )
        assert list(refusal.details) == [f"attachments.0.{next(iter(wrong))}"]
