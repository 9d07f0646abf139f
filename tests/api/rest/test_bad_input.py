"""Invalid input over REST is refused by name, in one shape, and changes nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from typing import Any

import pytest

from tests.support.patience import slowness
from tests.support.people import People, Person, ask, devices
from tests.support.rows import ENDPOINTS, INTERNAL, OPERATOR, Endpoint, Scene, names, set_scene
from tests.support.servers import INTERNAL_SECRET
from tests.support.shapes import error

IN_BODY = [endpoint for endpoint in ENDPOINTS if endpoint.fields]
IN_QUERY = [endpoint for endpoint in ENDPOINTS if endpoint.query]
IN_PATH = [endpoint for endpoint in ENDPOINTS if "{" in endpoint.path]


def refused(status: int, answer: Any, code: str = "VALIDATION_FAILED") -> dict[str, Any]:
    assert set(answer) == {"error"}, answer
    details = {key: value for key, value in answer["error"].items() if key == "details"}
    assert answer["error"] == error(code, **details)
    statuses = {"VALIDATION_FAILED": 400, "NOT_FOUND": 404, "PAYLOAD_TOO_LARGE": 413}
    assert status == statuses[code]
    return answer["error"]


@pytest.mark.parametrize("endpoint", IN_BODY, ids=lambda endpoint: endpoint.name)
async def test_each_wrong_field_is_named(people: People, endpoint: Endpoint) -> None:
    scene = await set_scene(people)
    phone = await scene.bob.connect()
    path, right = endpoint.at(**scene.ids), endpoint.needs(scene)
    state = await scene.state()
    for field, wrongs in endpoint.fields.items():
        for wrong in wrongs:
            if wrong is None and field in ("name", "avatarUrl"):
                continue
            body = {**right, field: wrong}
            status, answer = await scene.alice.request(endpoint.method, path, body)
            assert names(refused(status, answer), field), (field, wrong, answer)
    for field in right:
        body = {key: value for key, value in right.items() if key != field}
        status, answer = await scene.alice.request(endpoint.method, path, body)
        assert names(refused(status, answer), field), field
    assert await scene.state() == state
    assert await heard(phone) == []


async def heard(device: Any) -> list[Any]:
    await device.caught_up()
    return [name for name, _ in device.heard if name not in ("connected", "user:online")]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_an_unknown_field_is_refused_and_named(people: People, endpoint: Endpoint) -> None:
    scene = await set_scene(people)
    path, right = endpoint.at(**scene.ids), endpoint.needs(scene)
    state = await scene.state()
    for key in ("colour", "$gt", "$where", "a.b", "__proto__", "", "userID", "senderId", "\ud800"):
        for value in (1, "x", None, OPERATOR):
            body = {**right, key: value}
            status, answer = await scene.alice.request(endpoint.method, path, body)
            details = refused(status, answer)["details"]
            assert details == {key.replace("\ud800", "?"): ["Unknown field."]}
    status, answer = await scene.alice.request(endpoint.method, f"{path}?$gt=1", right or None)
    assert refused(status, answer)["details"] == {"$gt": ["Unknown field."]}
    # A parameter of the path cannot be repeated in the body or the query.
    for key in [name for name in scene.ids if f"{{{name}}}" in endpoint.path]:
        again = {**right, key: "0" * 24}
        status, answer = await scene.alice.request(endpoint.method, path, again)
        assert names(refused(status, answer), key)
        status, answer = await scene.alice.request(
            endpoint.method, f"{path}?{key}={'0' * 24}", right or None
        )
        assert names(refused(status, answer), key)
    assert await scene.state() == state


@pytest.mark.parametrize("endpoint", IN_QUERY, ids=lambda endpoint: endpoint.name)
async def test_each_wrong_part_of_a_query_is_named(people: People, endpoint: Endpoint) -> None:
    scene = await set_scene(people)
    path = endpoint.at(**scene.ids)
    state = await scene.state()
    for key, wrongs in endpoint.query.items():
        for wrong in wrongs:
            status, answer = await scene.alice.request(endpoint.method, path, params={key: wrong})
            assert names(refused(status, answer), key), (key, wrong)
        for twice in (f"{key}=1&{key}=1", f"{key}[$gt]=", f"{key}[]=1"):
            status, answer = await scene.alice.request(endpoint.method, f"{path}?{twice}")
            refused(status, answer)
    assert await scene.state() == state


@pytest.mark.parametrize("endpoint", IN_PATH, ids=lambda endpoint: endpoint.name)
async def test_a_path_may_contain_anything_and_finds_nothing(
    people: People, endpoint: Endpoint
) -> None:
    scene = await set_scene(people)
    state = await scene.state()
    right = endpoint.needs(scene) or ({"name": "New"} if endpoint.method == "PATCH" else None)
    keys = [key for key in scene.ids if f"{{{key}}}" in endpoint.path]
    for key in keys:
        for wrong in ("\0", "a\0b", "\n", "x" * 129, "\u202e", " " * 200):
            path = endpoint.at(**{**scene.ids, key: wrong})
            status, answer = await scene.alice.request(endpoint.method, path, right)
            assert names(refused(status, answer), key), (key, wrong)
        for wrong in ('{"$gt":""}', "[$ne]", "a/../b", "%00", "' || 1", "💥"):
            path = endpoint.at(**{**scene.ids, key: wrong})
            status, answer = await scene.alice.request(endpoint.method, path, right)
            if key == "emoji" and wrong == "💥":
                assert answer["totalCount"] == 0
            elif key == "emoji":
                assert names(refused(status, answer), key), wrong
            elif endpoint.path != "/users/{userId}/presence":
                refused(status, answer, "NOT_FOUND")
        raw = endpoint.path.format(**{**scene.ids, "emoji": "%F0%9F%91%8D", key: "%ED%A0%80%FF"})
        status, answer = await scene.alice.request(endpoint.method, raw, right)
        assert status in (200, 400, 404)
    assert await scene.state() == state


BODIES = [
    b"{",
    b'{"content": }',
    b'{"content": "x"} x',
    b"nonsense",
    b"\xff\xfe\xfa",
    b'{"content": "\xed\xa0\x80"}',
    b'{"content": "\xc3"}',
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"content": ' + b"9" * 60_000 + b"}",
    b'{"content": NaN}',
    b'{"content": Infinity}',
    b"null",
    b"1",
    b"true",
    b'"content"',
    b"[]",
    b'[{"content": "x"}]',
    b'"\\ud800"',
    b'{"\\ud800": 1}',
    b"content=x",
    b"{'content': 'x'}",
    '{"content": 1}'.encode("utf-16"),
]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_a_body_is_a_json_object_or_refused(people: People, endpoint: Endpoint) -> None:
    scene = await set_scene(people)
    path = endpoint.at(**scene.ids)
    state = await scene.state()
    for body in BODIES:
        status, answer = await scene.alice.request(endpoint.method, path, data=body)
        refused(status, answer)
    large = b'{"content": "%s"}' % (b"x" * 65_536)
    chunks = {"Transfer-Encoding": "chunked"}
    for body, headers in ((large, {}), (large, chunks), (b" " * 65_537, {})):
        status, answer = await scene.alice.request(
            endpoint.method, path, data=in_chunks(body) if headers else body
        )
        refused(status, answer, "PAYLOAD_TOO_LARGE")
    assert await scene.state() == state


async def in_chunks(body: bytes) -> Any:
    for at in range(0, len(body), 16_384):
        yield body[at : at + 16_384]


async def test_a_compressed_body_is_not_decompressed(people: People) -> None:
    scene = await set_scene(people)
    path = f"/conversations/{scene.talk['id']}/messages"
    state = await scene.state()
    zeros, right = b"0" * 30_000_000, b'{"content": "Packed"}'
    packed = gzip.compress(right)
    for body, encoding in [
        (gzip.compress(zeros), "gzip"),
        (zlib.compress(zeros), "deflate"),
        (packed, "gzip"),
        (packed[:20], "gzip"),
        (b"no gzip at all", "gzip"),
        (packed[:12] + b"\xff" * 20, "gzip"),
    ]:
        headers = {"Content-Encoding": encoding}
        status, answer = await scene.alice.request("POST", path, data=body, headers=headers)
        refused(status, answer)
    assert await scene.state() == state


@pytest.mark.parametrize("endpoint", INTERNAL, ids=lambda endpoint: endpoint.name)
async def test_the_master_service_gets_the_invalid_fields_too(
    people: People, endpoint: Endpoint
) -> None:
    scene = await set_scene(people)
    path, right = endpoint.at(externalUserId=scene.bob.id, endpoint="crm"), endpoint.needs(scene)
    before = await people.master("GET", f"/users/{scene.bob.id}")
    for field, wrongs in endpoint.fields.items():
        for wrong in wrongs:
            if wrong is None and field in ("name", "avatarUrl"):
                continue
            status, answer = await people.master(endpoint.method, path, {**right, field: wrong})
            assert names(refused(status, answer), field), (field, wrong)
    status, answer = await people.master(endpoint.method, path, {**right, "$gt": ""})
    assert names(refused(status, answer), "$gt")
    url, secret = f"{people.server.rest}/api{path}", {"X-Internal-Secret": INTERNAL_SECRET}
    for body in BODIES:
        status, answer = await ask(people.session, endpoint.method, url, None, secret, data=body)
        refused(status, answer)
    assert await people.master("GET", f"/users/{scene.bob.id}") == before


async def test_an_unknown_path_is_refused_in_the_same_shape(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = f"/conversations/{(await alice.direct(bob))['id']}"
    for method, path in [
        ("GET", "/messages"),
        ("GET", f"{talk}/"),
        ("GET", f"{talk}/nonsense"),
        ("GET", "/"),
        ("GET", "/nonsense/{$gt}"),
        ("GET", "//conversations"),
        ("POST", "/presence"),
    ]:
        status, answer = await alice.request(method, path, {"x": 1} if method == "POST" else None)
        refused(status, answer, "NOT_FOUND")
    for path in ("/", "/api", "/nonsense", "/socket.io/", "/api/../health/.."):
        async with people.session.get(people.server.rest + path) as missing:
            refused(missing.status, await missing.json(), "NOT_FOUND")
    async with people.session.get(people.server.sockets + "/api/conversations") as missing:
        refused(missing.status, await missing.json(), "NOT_FOUND")


async def test_an_unsupported_method_is_refused_with_the_supported_ones(
    people: People,
) -> None:
    alice = people("alice")
    url = f"{people.server.rest}/api"
    for method, path, there in [
        ("PUT", "/conversations", "GET,POST"),
        ("DELETE", "/conversations", "GET,POST"),
        ("OPTIONS", "/conversations", "GET,POST"),
        ("TRACE", "/conversations", "GET,POST"),
        ("POST", "/conversations/x", "DELETE,GET,PATCH"),
        ("PUT", "/conversations/x", "DELETE,GET,PATCH"),
        ("PATCH", "/conversations/x/messages", "GET,POST"),
        ("POST", "/messages/x", "DELETE,GET,PATCH"),
    ]:
        bearer = {"Authorization": f"Bearer {alice.token}"}
        async with people.session.request(method, url + path, headers=bearer) as answer:
            refused(answer.status, await answer.json(), "NOT_FOUND")
            assert answer.headers["Allow"] == there


SLOW = ["https://" + "a." * 30_000, "https://" + "a-" * 30_000, "https://a" + ".a" * 20_000 + "/ "]
SLOW += ["https://[" + ":" * 50_000, "https://" + "1." * 30_000, "https://a:b@" * 4000]
SLOW += ["https://" + "é" * 20_000, "https://a/" + "%" * 60_000, "https://a.b:" + "9" * 60_000]


async def test_no_pattern_takes_long_to_refuse(people: People) -> None:
    scene = await set_scene(people)
    path, talk = f"/conversations/{scene.talk['id']}/messages", f"/conversations/{scene.talk['id']}"
    for url in SLOW:
        started = time.monotonic()
        file = {"type": "file", "url": url}
        for method, where, body in (
            ("POST", path, {"attachments": [file]}),
            ("PATCH", talk, {"avatarUrl": url}),
        ):
            data = json.dumps(body, ensure_ascii=False).encode()
            status, answer = await scene.alice.request(method, where, data=data)
            refused(status, answer)
        # A pattern whose time grows faster than the input would take minutes.
        assert time.monotonic() - started < 2 * slowness(), url[:20]
    for emoji in ("👩‍" * 5000, "a" * 60_000, "\u20e3" * 33, ":" * 60_000):
        status, answer = await scene.alice.request(
            "POST", f"/messages/{scene.message['id']}/reactions", {"emoji": emoji[:3000]}
        )
        refused(status, answer)


async def test_a_client_that_sends_garbage_disturbs_nobody(people: People) -> None:
    scene, carol = await set_scene(people), people("carol")
    desk, phone = await devices(scene.alice, scene.bob)

    async def flood(person: Person, scene: Scene) -> None:
        for body in BODIES * 10:
            await person.request("POST", f"/conversations/{scene.talk['id']}/messages", data=body)

    flooding = asyncio.gather(*[flood(person, scene) for person in (carol, carol, scene.bob)])
    said = [await desk.say(scene.talk, f"Message {n}") for n in range(40)]
    await flooding
    assert await phone.all_heard("message:new") == said
    assert [message["seq"] for message in said] == list(range(2, 42))
