"""A request can be traced by its id, from the response to the log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.support.people import People
from tests.support.servers import ChatServer

ID = "X-Request-Id"
MADE = r"[0-9a-f]{16}"


@pytest.fixture
def people(server: ChatServer, people_of: Callable[[ChatServer], People]) -> People:
    """All people are on one node, whose log the test reads."""
    return people_of(server)


def lines(server: ChatServer, **having: Any) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in found if having.items() <= line.items()]


async def ask(
    people: People, method: str, path: str, user_token: str = "", **headers: str
) -> aiohttp.ClientResponse:
    if user_token:
        headers["Authorization"] = f"Bearer {user_token}"
    url = f"{people.server.rest}{path}"
    async with people.session.request(method, url, headers=headers) as answer:
        await answer.read()
        return answer


async def test_the_callers_id_comes_back_and_is_in_the_log(people: People) -> None:
    alice = people("alice")
    for given in (f"a-{alice.id}", f"req.1:2/3=4+5~6_{alice.id}", "x" * 100 + alice.id[-28:]):
        answer = await ask(people, "GET", "/api/conversations", alice.token, **{ID: given})
        assert (answer.status, answer.headers[ID]) == (200, given)
        (line,) = lines(people.server, request=given)
        assert (line["event"], line["user"], line["code"]) == ("request", alice.id, "OK")


async def test_an_id_that_is_not_harmless_is_replaced(people: People) -> None:
    alice = people("alice")
    for given in ("", " ", "x" * 129, "a b", 'a"b', "a;b", "ä", "<script>", "a\tb"):
        answer = await ask(people, "GET", "/api/conversations", alice.token, **{ID: given})
        assert answer.status == 200
        assert re.fullmatch(MADE, answer.headers[ID]), given
        assert len(lines(people.server, request=answer.headers[ID])) == 1


async def test_every_response_has_a_request_id_also_errors(people: People) -> None:
    alice = people("alice")
    seen = set()
    for method, path, who, status in (
        ("GET", "/api/conversations", "", 401),
        ("GET", "/api/conversations?limit=x", alice.token, 400),
        ("GET", "/api/messages/none", alice.token, 404),
        ("GET", "/api/users/none", "", 401),
        ("GET", "/api/nothing-of-ours", "", 404),
        ("PUT", "/api/conversations", "", 404),
    ):
        answer = await ask(people, method, path, who)
        assert answer.status == status, path
        assert re.fullmatch(MADE, answer.headers[ID])
        seen.add(answer.headers[ID])
        answer = await ask(people, method, path, who, **{ID: "mine"})
        assert answer.headers[ID] == "mine"
    assert len(seen) == 6


async def test_a_connection_is_followed_by_the_id_that_its_client_knows(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect("websocket")
    (told,) = [payload for name, payload in desk.heard if name == "connected"]
    sid = told["socketId"]
    await desk.say(talk, "Hello")
    await desk.refused("message:send", {"conversationId": talk["id"], "content": ""})
    done = [(line["name"], line["code"]) for line in lines(people.server, event="event", sid=sid)]
    assert done == [
        ("connect", "OK"),
        ("message:send", "OK"),
        ("message:send", "VALIDATION_FAILED"),
    ]
    # With the transport's id anybody could take over the session.
    assert desk.client.eio.sid not in people.server.log
    await desk.close()
    await people("carol").connect("websocket")
    assert len(lines(people.server, event="disconnected", sid=sid)) == 1
