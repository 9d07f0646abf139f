"""Every event is answered: through its callback, or without one by the `error` event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.people import People, devices
from tests.support.shapes import A_SENTENCE, A_TIME, error

Payload = Callable[[str, str], dict[str, Any]]


def _conversation(conversation_id: str, _: str) -> dict[str, Any]:
    return {"conversationId": conversation_id}


def _message(_: str, message_id: str) -> dict[str, Any]:
    return {"messageId": message_id}


def _and(build: Payload, **more: Any) -> Payload:
    return lambda conversation_id, message_id: {**build(conversation_id, message_id), **more}


OF_CONVERSATIONS: dict[str, Payload] = {
    "message:send": _and(_conversation, content="Hello"),
    "message:edit": _and(_message, content="Hello"),
    "message:delete": _message,
    "reaction:add": _and(_message, emoji="👍"),
    "reaction:remove": _and(_message, emoji="👍"),
    "message:read": _message,
    "conversation:read": _conversation,
    "typing:start": _conversation,
    "typing:stop": _conversation,
    "recording:start": _conversation,
    "recording:stop": _conversation,
    "messages:sync": _and(_conversation, afterSeq=0),
    "room:join": _conversation,
    "room:leave": _conversation,
}
OTHERS: dict[str, Payload] = {
    "activity:ping": lambda *_: {},
    "ping": lambda *_: {},
    "auth:refresh": lambda *_: {"token": "a.b.c"},
}
ALL = OF_CONVERSATIONS | OTHERS


@pytest.mark.parametrize("event", OF_CONVERSATIONS)
async def test_an_outsider_learns_nothing_and_changes_nothing(people: People, event: str) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    desk, outside = await devices(alice, stranger)
    sent = await desk.say(talk, "Between us")
    heard = list(desk.heard)

    refusal = await outside.refused(event, ALL[event](talk["id"], sent["id"]))
    nothing = await outside.refused(event, ALL[event]("0" * 24, "0" * 24 + "-00000001"))
    # To an outsider, an existing and a missing conversation look the same.
    assert refusal.error == error("NOT_FOUND")
    assert nothing.error == error("NOT_FOUND")
    assert refusal.error["message"] == nothing.error["message"]
    await desk.caught_up()
    assert desk.heard == heard
    assert await alice.ask("GET", f"/messages/{sent['id']}") == sent
    await desk.say(talk, "Still between us")
    await outside.caught_up()
    assert [name for name, _ in outside.heard] == ["connected"]


@pytest.mark.parametrize("event", OF_CONVERSATIONS)
async def test_a_removed_member_is_an_outsider(people: People, event: str) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    phone = await bob.connect()
    sent = await phone.say(group, "My own")
    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{bob.id}")
    refusal = await phone.refused(event, ALL[event](group["id"], sent["id"]))
    assert refusal.error == error("NOT_FOUND")
    assert await alice.ask("GET", f"/messages/{sent['id']}") == sent


@pytest.mark.parametrize("event", ALL)
async def test_a_wrong_payload_is_refused_with_a_callback_and_without(
    people: People, event: str
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, tablet, phone = await devices(alice, alice, bob)
    sent = await desk.say(talk, "Hello")
    right = ALL[event](talk["id"], sent["id"])
    wrongs: list[tuple[Any, str]] = [({**right, "$gt": ""}, "$gt")]
    for key in right:
        wrongs += [({**right, key: wrong}, key) for wrong in (None, {"$gt": ""}, ["a"])]
        wrongs += [({name: right[name] for name in right if name != key}, key)]
    for payload, key in wrongs:
        if key in ("content", "afterSeq") and key not in payload:
            continue  # optional keys, and keys whose absence is reported under another name
        refusal = await desk.refused(event, payload)
        expected = error("VALIDATION_FAILED", details=refusal.details)
        assert refusal.error == expected, payload
        assert [field.split(".")[0] for field in refusal.details] == [key], payload
        assert all(reasons == [A_SENTENCE] for reasons in refusal.details.values())
    for payload in ([], "text", 7, True, [right]):
        assert (await desk.refused(event, payload)).code == "VALIDATION_FAILED"
    refused = await desk.client.call(event, (right, right), timeout=5)
    assert (refused["ok"], refused["error"]["code"]) == (False, "VALIDATION_FAILED")

    await desk.client.emit(event, {**right, "colour": "red"})
    assert await desk.hears("error") == error(
        "VALIDATION_FAILED", details={"colour": [A_SENTENCE]}, event=event
    )
    assert len(await desk.all_heard("error")) == 1
    for device in (desk, tablet, phone):
        await device.caught_up()
        told = [name for name, _ in device.heard if name not in ("user:online", "error")]
        assert told == ["connected", "message:new"]


async def test_without_a_callback_only_this_socket_receives_the_error(people: People) -> None:
    alice, stranger = people("alice", "stranger")
    talk = await alice.direct(people("bob"))
    outside, elsewhere, desk = await devices(stranger, stranger, alice)
    await outside.client.emit("message:send", {"conversationId": talk["id"], "content": "Hi"})
    assert await outside.hears("error") == error("NOT_FOUND", event="message:send")
    for device in (elsewhere, desk):
        assert await device.all_heard("error") == []


async def test_an_unknown_event_is_refused_by_name(people: People) -> None:
    phone = await people("alice").connect()
    unknown = error("VALIDATION_FAILED", details={"event": [A_SENTENCE]})
    for name in ("message:sent", "connect", "disconnect", "$where", "x" * 100):
        refusal = await phone.refused(name, {})
        assert refusal.error == unknown
        await phone.client.emit(name, {})
        assert await phone.hears("error") == {**unknown, "event": name}


async def test_a_ping_is_answered_with_a_callback_and_without(people: People) -> None:
    alice = people("alice")
    phone, tablet = await devices(alice, alice)
    assert await phone.do("ping") == {"timestamp": A_TIME}
    await phone.client.emit("ping", {})
    assert await phone.hears("pong") == {"timestamp": A_TIME}
    await phone.client.emit("ping")  # no payload at all
    assert await phone.hears("pong") == {"timestamp": A_TIME}
    assert await phone.client.call("ping", timeout=5) == {"ok": True, "data": {"timestamp": A_TIME}}
    assert len(await phone.all_heard("pong")) == 2
    assert await tablet.all_heard("pong") == []


async def test_without_a_callback_success_sends_only_the_events_for_everyone(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    here = {"conversationId": talk["id"]}
    await desk.client.emit("message:send", {**here, "content": "Hello"})
    sent = await desk.hears("message:new")
    for event, payload in [
        ("message:edit", {"messageId": sent["id"], "content": "Hello!"}),
        ("reaction:add", {"messageId": sent["id"], "emoji": "👍"}),
        ("typing:start", here),
        ("room:join", here),
        ("activity:ping", {}),
        ("message:delete", {"messageId": sent["id"]}),
    ]:
        await desk.client.emit(event, payload)
    await desk.hears("message:deleted")
    news = [name for name, _ in desk.heard if name not in ("connected", "user:online")]
    assert news == ["message:new", "message:updated", "reaction:added", "message:deleted"]
    await phone.hears("message:deleted")
    # On a slow machine the typing times out before the end.
    assert [typing["isActive"] for typing in await phone.all_heard("user:typing")][:2] in (
        [True],
        [True, False],
    )


async def test_binary_data_is_refused_by_the_name_of_its_event(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    binary = {"conversationId": talk["id"], "content": b"bytes"}
    assert (await desk.refused("message:send", binary)).error == error("VALIDATION_FAILED")
    await desk.client.emit("message:send", binary)
    assert await desk.hears("error") == error("VALIDATION_FAILED", event="message:send")
    sent = await desk.say(talk, "text")
    assert await phone.all_heard("message:new") == [sent]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_packet_has_at_most_64_kilobytes(people: People, transport: str) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await alice.connect(transport), await bob.connect()
    wide = "ы" * 9_000  # this client escapes it: six bytes each
    sent = await desk.say(talk, wide)
    attachment = {"type": "file", "url": "https://files.example/" + "a" * 2000}
    at_most = {"attachments": [attachment] * 5}
    fits = await desk.say(talk, "x", **at_most)
    refusal = await desk.refused(
        "message:send", {"conversationId": talk["id"], "content": "x" * 66_000}
    )
    assert refusal.error == error("PAYLOAD_TOO_LARGE")
    await desk.client.emit("message:send", {"conversationId": talk["id"], "content": "x" * 66_000})
    assert await desk.hears("error") == error("PAYLOAD_TOO_LARGE", event="message:send")
    async with asyncio.timeout(PATIENCE_S):
        after = await desk.say(talk, "And on we go")
    assert await phone.all_heard("message:new") == [sent, fits, after]
