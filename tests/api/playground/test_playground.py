"""The playground: in development only, the server serves the page and gives tokens for its people."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from chatserver.development import PEOPLE
from chatserver.settings import BadSettings, Settings
from tests.conftest import Starter
from tests.support.servers import INTERNAL_SECRET, JWT_SECRET, WEBHOOK_SECRET, ChatServer

PRODUCTION = {
    "ENV": "production",
    "AUTH_JWT_SECRET": JWT_SECRET,
    "INTERNAL_API_SECRET": INTERNAL_SECRET,
    "WEBHOOK_SECRET": WEBHOOK_SECRET,
}
PAGE = ("/playground", "/playground/playground.js", "/playground/playground.css")
TOKEN, WHO = "/playground/token", "/playground/people"


async def ask(
    server: ChatServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, server.rest + path, json=body, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.text()


async def token(server: ChatServer, user_id: str) -> str:
    _, headers, text = await ask(server, "POST", TOKEN, {"userId": user_id})
    assert headers["Cache-Control"] == "no-store"
    return str(json.loads(text)["token"])


async def test_the_page_is_served_under_a_policy_that_lets_nothing_else_in(start: Starter) -> None:
    server = await start()
    for path in PAGE:
        status, headers, text = await ask(server, "GET", path)
        assert status == 200
        assert text
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
    _, headers, page = await ask(server, "GET", "/playground")
    sockets = server.sockets.replace("http://", "ws://")
    assert f"connect-src 'self' {sockets};" in headers["Content-Security-Policy"]
    assert all(f'"{path}"' in page for path in PAGE[1:])
    assert "style=" not in page
    assert "<script>" not in page


async def test_a_visitor_can_be_any_of_the_demos_people(start: Starter) -> None:
    server = await start()
    around = json.loads((await ask(server, "GET", WHO))[2])
    assert [person["id"] for person in around["people"]] == [person.id for person in PEOPLE]
    assert server.sockets.endswith(f":{around['socketsPort']}")
    headers = {"Authorization": f"Bearer {await token(server, 'alice')}"}
    status, _, _ = await ask(server, "GET", "/api/conversations", **headers)
    assert status == 200


async def test_the_demos_people_are_admitted_where_users_must_be_known(start: Starter) -> None:
    server = await start(AUTH_REQUIRE_KNOWN_USER="true")
    headers = {"Authorization": f"Bearer {await token(server, 'bob')}"}
    status, _, _ = await ask(server, "GET", "/api/conversations", **headers)
    assert status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [({"userId": "mallory"}, 404), ({"userId": 1}, 400), ({}, 400), ([], 400)],
)
async def test_nobody_but_the_demos_people_gets_a_token(
    start: Starter, body: Any, status: int
) -> None:
    server = await start()
    assert (await ask(server, "POST", TOKEN, body))[0] == status


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.example"]
)
async def test_a_dns_name_that_points_to_this_machine_is_refused(start: Starter, name: str) -> None:
    server = await start()
    port = server.rest.rpartition(":")[2]
    for method, path in (("GET", "/playground"), ("GET", WHO), ("POST", TOKEN)):
        body = {"userId": "alice"} if method == "POST" else None
        status, _, text = await ask(server, method, path, body, Host=f"{name}:{port}")
        assert status == 403
        assert "token" not in text


@pytest.mark.parametrize("name", ["localhost", "chat.localhost", "[::1]", "192.168.1.7"])
async def test_the_playground_opens_at_an_address_and_at_localhost(
    start: Starter, name: str
) -> None:
    server = await start()
    status, headers, _ = await ask(server, "GET", "/playground", Host=f"{name}:3000")
    where = "*" if name == "[::1]" else name
    assert status == 200
    assert f"ws://{where}:" in headers["Content-Security-Policy"]


OWN = "http://localhost:{port}"


ORIGINS = [
    ("https://chat.example", "localhost", 200),
    (OWN, "localhost", 200),
    ("http://127.0.0.1:{port}", "127.0.0.1", 200),
    (OWN, "127.0.0.1", 400),
    ("http://evil.example:{port}", "evil.example", 400),
    ("http://localhost:1", "localhost", 400),
    ("https://other.example", "localhost", 400),
]


async def test_the_playground_and_the_cors_origins_may_connect_and_nobody_else(
    start: Starter,
) -> None:
    server = await start(CORS_ORIGINS="https://chat.example")
    for origin, host, status in ORIGINS:
        named = origin.format(port=server.port)
        headers = {"Origin": named, "Host": f"{host}:{server.ws_port}"}
        path = server.sockets + "/socket.io/?EIO=4&transport=polling"
        async with (
            aiohttp.ClientSession() as session,
            session.get(path, headers=headers) as answer,
        ):
            assert answer.status == status, (named, host)
            assert answer.headers.get("Access-Control-Allow-Origin") == (
                named if status == 200 else None
            )


async def test_production_has_no_playground(start: Starter) -> None:
    server = await start(**PRODUCTION)
    for path in (*PAGE, WHO):
        assert (await ask(server, "GET", path))[0] == 404
    assert (await ask(server, "POST", TOKEN, {"userId": "alice"}))[0] == 404


async def test_the_playground_can_be_off_in_development(start: Starter) -> None:
    server = await start(PLAYGROUND="off")
    assert (await ask(server, "GET", "/playground"))[0] == 404


@pytest.mark.parametrize(
    "settings", [PRODUCTION, {"AUTH_JWKS_URL": "https://master.example/keys"}], ids=["env", "keys"]
)
def test_the_playground_cannot_be_on_where_it_cannot_give_tokens(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    assert not Settings.from_environment().playground
    monkeypatch.setenv("PLAYGROUND", "on")
    with pytest.raises(BadSettings, match=r"^PLAYGROUND is on"):
        Settings.from_environment()
