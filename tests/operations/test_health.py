"""Operators see health, readiness, metrics and logs, but never the contents of messages."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import Starter
from tests.support.people import People, token
from tests.support.servers import INTERNAL_SECRET, JWT_SECRET, ChatServer, free_port

Of = Callable[[ChatServer], People]


@pytest.fixture
def people(server: ChatServer, people_of: Callable[[ChatServer], People]) -> People:
    """All people are on one node, whose metrics and log the test reads."""
    return people_of(server)


async def get(people: People, url: str) -> tuple[int, str, str]:
    async with people.session.get(url) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_health_is_on_both_ports_ready_and_metrics_on_one(people: People) -> None:
    server = people.server
    for base in (server.rest, server.sockets):
        status, kind, text = await get(people, f"{base}/health")
        assert (status, kind) == (200, "application/json")
        assert json.loads(text)["status"] == "ok"
    status, kind, text = await get(people, f"{server.rest}/ready")
    assert (status, kind, json.loads(text)["status"]) == (200, "application/json", "ready")
    status, kind, text = await get(people, f"{server.rest}/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    # Private paths are not on the public port, and sockets are only on the public port.
    for path in ("/ready", "/metrics", "/api/conversations", "/api/users/alice"):
        assert (await get(people, server.sockets + path))[0] == 404
    assert (await get(people, f"{server.rest}/socket.io/?EIO=4&transport=polling"))[0] == 404


async def test_one_port_for_both_is_one_listener(start: Starter, people_of: Of) -> None:
    port = str(free_port())
    server = await start(PORT=port, WS_PORT=port)
    assert server.rest == server.sockets
    people = people_of(server)
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    phone = await bob.connect("upgrade")
    path = f"/conversations/{talk['id']}/messages"
    sent = await alice.ask("POST", path, {"content": "One door for all"})
    assert await phone.hears("message:new") == sent
    assert (await people.master("GET", f"/users/{alice.id}"))[0] == 200
    for path in ("/health", "/ready", "/metrics"):
        assert (await get(people, server.rest + path))[0] == 200


def samples(text: str) -> dict[str, float]:
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


async def test_metrics_count_requests_by_name_and_outcome(people: People) -> None:
    alice, bob = people("alice", "bob")
    url = f"{people.server.rest}/metrics"
    before = samples((await get(people, url))[2])
    talk = await alice.direct(bob)
    path = f"/conversations/{talk['id']}/messages"
    for text in ("One", "Two", ""):
        await alice.request("POST", path, {"content": text})
    desk = await alice.connect()
    await desk.say(talk, "Three")
    await desk.refused("message:send", {"conversationId": talk["id"], "content": ""})
    await desk.refused(f"made-up-{alice.id}", {})
    await alice.request("GET", f"/made-up-{alice.id}")
    await people.master("GET", f"/users/{alice.id}")
    text = (await get(people, url))[2]
    after = samples(text)

    def grown(door: str, name: str, code: str) -> float:
        for key, value in after.items():
            labels = set(re.findall(r'(\w+)="([^"]*)"', key))
            if key.startswith("chat_requests_total") and labels == {
                ("door", door),
                ("name", name),
                ("code", code),
            }:
                return value - before.get(key, 0)
        return 0

    post = "POST /api/conversations/{conversationId}/messages"
    assert grown("rest", post, "OK") == 2
    assert grown("rest", post, "VALIDATION_FAILED") == 1
    assert grown("socket", "message:send", "OK") == 1
    assert grown("socket", "message:send", "VALIDATION_FAILED") == 1
    assert grown("internal", "GET /api/users/{externalUserId}", "OK") == 1
    assert after['chat_connections{transport="websocket"}'] >= 1
    # A caller cannot make up time series.
    assert alice.id not in text
    assert talk["id"] not in text


SAID = "The-secret-that-Alice-told-Bob"


async def test_the_log_has_a_line_for_every_request_and_no_contents(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    server = people.server
    start = len(server.log)
    talk = await alice.group(bob, name=f"{SAID} name", metadata={"a": f"{SAID} metadata"})
    path = f"/conversations/{talk['id']}"
    desk, phone = await alice.connect(), await bob.connect("polling")
    file = {"type": "file", "url": f"https://files.example/{SAID}", "name": SAID}
    sent = await desk.say(
        talk, f"{SAID} content", attachments=[file], metadata={"a": SAID}, clientMessageId="c-1"
    )
    await desk.do("message:edit", {"messageId": sent["id"], "content": f"{SAID} edited"})
    posted = await alice.ask("POST", f"{path}/messages", {"content": f"{SAID} posted"})
    await alice.ask("PATCH", f"/messages/{posted['id']}", {"content": f"{SAID} again"})
    await bob.ask("GET", f"{path}/messages")
    await phone.do("messages:sync", {"conversationId": talk["id"], "afterRev": 0})
    # Refused requests have contents, too.
    await desk.refused("message:send", {"conversationId": talk["id"], "content": SAID, SAID: SAID})
    await desk.refused("message:send", {"conversationId": "0" * 24, "content": SAID})
    await desk.refused(SAID, {})
    await desk.client.emit(SAID, {SAID: SAID})
    await alice.refused("POST", f"{path}/messages", {"content": [SAID]})
    await alice.request("POST", f"{path}/messages", data=f'{{"content": "{SAID}'.encode())
    await alice.request("GET", f"{path}/messages?{SAID}={SAID}")
    await people.master("POST", "/users/sync", {"externalUserId": alice.id, "name": SAID})
    await people.master("POST", "/users/sync/batch", {"users": [{SAID: SAID}, SAID]})
    expired = token(alice.id, expires_in=-1)
    await alice.request("GET", path, headers={"Authorization": f"Bearer {expired}"})
    await alice.request("GET", f"{path}?token={alice.token}")
    await people.master("GET", "/conversations", **{"X-User-Id": bob.id})
    await desk.do("auth:refresh", {"token": alice.token})
    await desk.refused("auth:refresh", {"token": expired})
    await desk.client.eio.ws.send_str(f"4{SAID}")
    await asyncio.wait_for(desk.gone.wait(), 5)
    await phone.caught_up()

    log = server.log[start:]
    lines = [json.loads(line) for line in log.splitlines()]
    assert SAID not in log
    for secret in (alice.token, expired, JWT_SECRET, INTERNAL_SECRET):
        assert secret not in log
        assert secret.rpartition(".")[2] not in log
    assert "eyJ" not in log

    requests = [line for line in lines if line["event"] == "request"]
    events = [line for line in lines if line["event"] == "event"]
    for logged in [*requests, *events]:
        assert logged["ms"] >= 0
        assert logged["name"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", logged["timestamp"])

    def done(found: list[Any], name: str, code: str = "OK") -> list[Any]:
        return [line for line in found if (line["name"], line["code"]) == (name, code)]

    post = "POST /api/conversations/{conversationId}/messages"
    (line,) = done(requests, post)
    assert (line["door"], line["user"]) == ("rest", alice.id)
    assert talk["id"] in line.values()
    assert len(done(requests, post, "VALIDATION_FAILED")) == 2
    (line,) = done(requests, "PATCH /api/messages/{messageId}")
    assert posted["id"] in line.values()
    (line,) = done(events, "message:send")
    assert line["user"] == alice.id
    assert talk["id"] in line.values()
    assert line["sid"]
    (line,) = done(events, "message:edit")
    assert sent["id"] in line.values()
    assert len(done(events, "message:send", "VALIDATION_FAILED")) == 1
    assert len(done(events, "message:send", "NOT_FOUND")) == 1
    assert len(done(events, "auth:refresh", "TOKEN_EXPIRED")) == 1


@pytest.mark.parametrize("form", ["json", "console"])
async def test_the_log_level_and_format_are_as_set(
    start: Starter, people_of: Of, form: str
) -> None:
    server = await start(LOG_LEVEL="warning" if form == "json" else "info", LOG_FORMAT=form)
    people = people_of(server)
    await people("alice").ask("GET", "/conversations")
    if form == "json":
        assert "request" not in server.log
    else:
        lines = [line for line in server.log.splitlines() if "GET /api/conversations" in line]
        assert len(lines) == 1
        assert not lines[0].startswith("{")


async def test_only_the_configured_origins_may_connect(start: Starter) -> None:
    server = await start(CORS_ORIGINS="https://chat.example, https://other.example")
    async with aiohttp.ClientSession() as session:
        url = f"{server.sockets}/socket.io/?EIO=4&transport=polling"
        for origin, status in [
            ("https://chat.example", 200),
            ("https://other.example", 200),
            ("https://evil.example", 400),
            ("https://chat.example.evil", 400),
            ("null", 400),
        ]:
            async with session.get(url, headers={"Origin": origin}) as answer:
                assert answer.status == status, origin
                if status == 200:
                    assert answer.headers["Access-Control-Allow-Origin"] == origin
