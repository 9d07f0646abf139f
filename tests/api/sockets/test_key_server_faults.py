"""The server of the keys that verify tokens is slow or down: all requests share one fetch, and none waits long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import jwt
import pytest
from aiohttp import web

from chatserver.api.key_set import AGE_S, FETCH_S, PAUSE_S, RETRY_S, TRUST_S, WAIT_S, KeySet
from chatserver.errors import Unavailable
from tests.conftest import Starter
from tests.support.key_server import KEYS, RSA, KeyServer, signed, until_ok
from tests.support.people import People
from tests.support.servers import ChatServer
from tests.support.tokens import tried


async def slow(seconds: float) -> web.Response:
    await asyncio.sleep(seconds)
    return web.json_response({"keys": KEYS})


async def test_two_hundred_connections_share_one_fetch_of_a_slow_server(
    keys: KeyServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    everyone = people_of(await start(AUTH_JWKS_URL=keys.url))
    keys.answer = lambda: slow(1)
    asked = keys.asked
    people = everyone(*[f"user{n}" for n in range(200)])
    given = [signed(RSA, "RS256", "rsa", sub=person.id) for person in people]
    devices = await asyncio.gather(
        *[person.connect(with_token=token) for person, token in zip(people, given, strict=True)]
    )
    assert all(device.heard[0][0] == "connected" for device in devices)
    assert keys.asked == asked + 1
    keys.serve({"keys": KEYS})


async def test_a_request_that_gives_up_does_not_end_the_fetch_for_the_others(
    keys: KeyServer,
) -> None:
    key_set = KeySet(keys.url)
    keys.answer = lambda: slow(0.5)
    asked = keys.asked
    waiting = [asyncio.create_task(key_set.key("rsa")) for _ in range(3)]
    await asyncio.sleep(0.2)
    waiting[0].cancel()
    for task in waiting[1:]:
        assert (await task).key_id == "rsa"
    assert waiting[0].cancelled()
    assert keys.asked == asked + 1
    keys.serve({"keys": KEYS})


async def test_while_the_key_server_fails_requests_are_refused_at_once(
    keys: KeyServer, start: Starter
) -> None:
    server = await start(AUTH_JWKS_URL=keys.url)
    keys.serve({}, 500)
    asked, began = keys.asked, time.monotonic()
    answers = await asyncio.gather(
        *[tried(server, signed(RSA, "RS256", "rsa", sub=f"user{n}")) for n in range(200)]
    )
    assert {status for status, _ in answers} == {503}
    assert keys.asked - asked <= 1 + (time.monotonic() - began) / RETRY_S
    keys.serve({"keys": KEYS})
    await until_ok(server)


async def test_the_keys_from_before_are_used_while_they_cannot_be_fetched(
    keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr("chatserver.api.key_set.time", SimpleNamespace(monotonic=lambda: clock))
    key_set = KeySet(keys.url)
    assert (await key_set.key("rsa")).key_id == "rsa"
    keys.answer = lambda: slow(FETCH_S + 1)
    asked = keys.asked
    clock += AGE_S + 1
    began = time.time()
    assert (await key_set.key("rsa")).key_id == "rsa"
    assert WAIT_S - 0.5 < time.time() - began < FETCH_S
    await asyncio.sleep(FETCH_S - WAIT_S + 0.5)  # the fetch fails
    began = time.time()
    for _ in range(100):
        clock += 2 * RETRY_S
        assert (await key_set.key("rsa")).key_id == "rsa"
    with pytest.raises(Unavailable):
        await key_set.key("new")
    assert keys.asked <= asked + 2
    await asyncio.sleep(FETCH_S)  # so does the next one
    clock += TRUST_S
    keys.serve({}, 500)
    with pytest.raises(Unavailable):
        await key_set.key("rsa")
    keys.serve({"keys": [key for key in KEYS if key["kid"] != "rsa"]})
    clock += RETRY_S
    assert (await key_set.key("ec")).key_id == "ec"
    with pytest.raises(jwt.InvalidSignatureError):
        await key_set.key("rsa")
    keys.serve({"keys": KEYS})


async def test_a_new_key_is_found_and_made_up_ones_are_looked_for_at_a_bounded_rate(
    keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr("chatserver.api.key_set.time", SimpleNamespace(monotonic=lambda: clock))
    key_set = KeySet(keys.url)
    keys.serve({"keys": [key for key in KEYS if key["kid"] != "ec"]})
    await key_set.key("rsa")
    asked = keys.asked
    for n in range(3):
        clock += PAUSE_S
        results = await asyncio.gather(
            *[key_set.key(f"made-up-{n}-{m}") for m in range(100)], return_exceptions=True
        )
        assert {type(result) for result in results} == {jwt.InvalidSignatureError}
        assert keys.asked == asked + n + 1
    keys.serve({"keys": KEYS})
    with pytest.raises(jwt.InvalidSignatureError):
        await key_set.key("ec")
    clock += PAUSE_S
    assert (await key_set.key("ec")).key_id == "ec"
