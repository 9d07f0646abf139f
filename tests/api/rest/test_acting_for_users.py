"""The Master Service acts for its users over REST."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.people import People, ask, devices, presence
from tests.support.servers import INTERNAL_SECRET, ChatServer
from tests.support.shapes import seen_by

ODD_IDS = [
    "a/b",
    "auth0|12?x=1&y#z",
    "tenant:42",
    "ünï 💥 名",
    "$where",
    "a.b.$c",
    "{id}",
    "%41%00",
    "__proto__",
    "constructor",
    "null",
    "0",
    "sync",
    "direct",
    "' OR 1=1 --",
    '"\\',
    "x" * 128,
    "é" * 128,
]


async def test_the_master_service_acts_for_a_user_as_the_user_would(people: People) -> None:
    alice, bob = people("alice", "bob")
    phone = await bob.connect()
    as_alice = {"X-User-Id": alice.id}
    status, talk = await people.master(
        "POST", "/conversations/direct", {"userId": bob.id}, **as_alice
    )
    assert (status, talk["createdBy"]) == (201, alice.id)
    assert await phone.hears("conversation:new") == talk
    path = f"/conversations/{talk['id']}/messages"
    status, sent = await people.master("POST", path, {"content": "By proxy"}, **as_alice)
    assert (status, sent["senderId"]) == (201, alice.id)
    assert await phone.hears("message:new") == sent
    own = await people.master("PATCH", f"/messages/{sent['id']}", {"content": "New"}, **as_alice)
    assert own[0] == 200
    # The Master Service may do only what the user may do.
    as_bob, as_nobody = {"X-User-Id": bob.id}, {"X-User-Id": f"nobody-{alice.id}"}
    for headers, code in ((as_bob, "FORBIDDEN"), (as_nobody, "NOT_FOUND")):
        _, answer = await people.master(
            "PATCH", f"/messages/{sent['id']}", {"content": "Mine"}, **headers
        )
        assert answer["error"]["code"] == code


async def test_with_the_secret_the_header_names_the_user_and_not_the_token(people: People) -> None:
    alice, bob = people("alice", "bob")
    await alice.group(name="Hers")
    hers = {"Authorization": f"Bearer {alice.token}", "X-User-Id": bob.id}
    status, page = await people.master("GET", "/conversations", **hers)
    assert (status, page["items"]) == (200, [])
    # Without the secret the header is ignored. With a wrong secret the token does not help.
    url = f"{people.server.rest}/api/conversations"
    status, page = await ask(people.session, "GET", url, None, hers)
    assert [conversation["name"] for conversation in page["items"]] == ["Hers"]
    for wrong in ("", INTERNAL_SECRET[1:], "ü"):
        headers = {**hers, "X-Internal-Secret": wrong}
        status, answer = await ask(people.session, "GET", url, None, headers)
        assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED")


async def test_the_user_must_be_named(people: People) -> None:
    for wrong in (None, "", "x" * 129, "a\tb", "\u202eb"):
        headers = {} if wrong is None else {"X-User-Id": wrong}
        status, answer = await people.master("GET", "/conversations", **headers)
        assert (status, answer["error"]["code"]) == (400, "VALIDATION_FAILED")
        assert list(answer["error"]["details"]) == ["X-User-Id"]


@pytest.mark.parametrize("odd", [*ODD_IDS, " a ", "UTF-8''a"], ids=ascii)
async def test_a_header_can_name_any_user(people: People, odd: str) -> None:
    for given in (f"UTF-8''{quote(odd, safe='')}", f"utf-8''{quote(odd, safe='')}"):
        talk = {"type": "group", "participantIds": []}
        status, made = await people.master("POST", "/conversations", talk, **{"X-User-Id": given})
        assert (status, made["createdBy"]) == (201, odd)


async def test_an_id_in_the_wrong_encoding_is_refused(people: People) -> None:
    for wrong in ("", "%", "%4", "%ZZ", "a%", "%FF", "%C3", "%00", "%ED%A0%80", "x" * 129):
        headers = {"X-User-Id": "UTF-8''" + wrong}
        status, answer = await people.master("GET", "/conversations", **headers)
        assert (status, list(answer["error"]["details"])) == (400, ["X-User-Id"]), wrong


FETCH = """
const [url, secret, user] = JSON.parse(process.argv[1]);
const headers = { "X-Internal-Secret": secret, "X-User-Id": user, "Content-Type": "application/json" };
const body = JSON.stringify({ type: "group", participantIds: [] });
const answer = await fetch(url, { method: "POST", headers, body });
console.log(JSON.stringify(await answer.json()));
"""


@pytest.mark.parametrize(
    ("written", "user"),
    [
        ("Jürgen", "Jürgen"),  # `fetch` sends this as Latin-1
        ("UTF-8''J%C3%BCrgen", "Jürgen"),
        ("UTF-8''%E5%90%8D", "名"),
    ],
)
async def test_fetch_can_name_any_user(people: People, written: str, user: str) -> None:
    url = f"{people.server.rest}/api/conversations"
    fetch = await asyncio.create_subprocess_exec(
        *("node", "--input-type=module", "-e", FETCH),
        json.dumps([url, INTERNAL_SECRET, written]),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(fetch.communicate(), PATIENCE_S)
    assert json.loads(said)["createdBy"] == user


async def test_a_secret_may_have_umlauts(
    start: Callable[..., Awaitable[ChatServer]], people_of: Callable[[ChatServer], People]
) -> None:
    secret = "ein-Geheimnis-für-alle-Prüfungen-hier"
    people = people_of(await start(INTERNAL_API_SECRET=secret))
    for sent in (secret.encode(), secret.encode("latin-1")):
        reader, writer = await asyncio.open_connection("127.0.0.1", people.server.port)
        writer.write(
            b"GET /api/conversations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-User-Id: a\r\n"
            b"X-Internal-Secret: " + sent + b"\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("odd", ODD_IDS, ids=ascii)
async def test_an_id_of_any_shape_is_an_id(people: People, odd: str) -> None:
    alice, bob = people("alice", "bob")
    bob.id = odd
    group = await alice.group(bob)
    assert {participant["userId"] for participant in group["participants"]} == {alice.id, odd}
    desk, phone = await devices(alice, bob)
    path, user = f"/conversations/{group['id']}", quote(odd, safe="")
    sent = await phone.say(group, "It is me", clientMessageId=odd[:64], mentions=[odd])
    assert (sent["senderId"], sent["clientMessageId"]) == (odd, odd[:64])
    assert await phone.say(group, "Again", clientMessageId=odd[:64]) == sent
    await desk.hears("message:new")

    given = await alice.ask("PATCH", f"{path}/participants/{user}", {"role": "admin"})
    assert (given["userId"], given["role"]) == (odd, "admin")
    assert (await presence(alice, odd, "online"))["userId"] == odd
    status, known = await people.master("GET", f"/users/{user}")
    assert (status, known["externalUserId"]) == (200, odd)
    status, _ = await people.master("POST", "/users/sync", {"externalUserId": odd, "name": odd})
    assert status == 200
    assert await alice.request("DELETE", f"{path}/participants/{user}") == (204, None)
    assert await phone.hears("conversation:removed") == {"conversationId": group["id"]}
    direct = await bob.direct(alice)
    same = await alice.ask("POST", "/conversations/direct", {"userId": odd})
    assert same == seen_by(direct, alice.id)
    assert await people.master("DELETE", f"/users/{user}") == (204, None)
    await asyncio.wait_for(phone.gone.wait(), 5)
    await people.master("POST", "/users/sync", {"externalUserId": odd})


async def test_made_up_ids_find_nothing(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    sent = await (await alice.connect()).say(talk, "Hello")
    upper, short = sent["id"].upper(), sent["id"][:-1]
    made_up: list[Any] = [*ODD_IDS, talk["id"], f"{talk['id']}-", f"{talk['id']}-0", upper, short]
    for some_id in made_up:
        if some_id != sent["id"]:
            where = f"/messages/{quote(some_id, safe='')}"
            assert (await alice.refused("GET", where)).code == "NOT_FOUND", some_id
    for some_id in [*ODD_IDS, sent["id"], talk["id"].upper() + "x", talk["id"][:-1]]:
        where = f"/conversations/{quote(some_id, safe='')}"
        for path in (where, f"{where}/messages", f"{where}/unread-count"):
            assert (await alice.refused("GET", path)).code == "NOT_FOUND", some_id
