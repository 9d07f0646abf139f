"""Authentication with tokens signed with keys of which the server has only the public half."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from jwt.algorithms import ECAlgorithm

from tests.conftest import Starter
from tests.support.key_server import (
    EC,
    ED,
    KEYS,
    OTHER,
    P384,
    RSA,
    KeyServer,
    encoded,
    public,
    signed,
    until_ok,
)
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.servers import JWT_SECRET, ChatServer, chat_server
from tests.support.tokens import tried


@pytest_asyncio.fixture(scope="module")
async def keyed(
    mongo_url: str, worker: str, keys: KeyServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatServer]:
    log: Path = tmp_path_factory.mktemp("keyed") / "log"
    async with chat_server(
        mongo_url, f"keyed-{worker}", log, AUTH_JWKS_URL=keys.url, AUTH_JWT_ISSUER="master"
    ) as running:
        yield running


def forged(secret: bytes, kid: str, algorithm: str = "HS256") -> str:
    """Returns a token that is by default signed with HS256 and a public key as the secret: key confusion."""
    header = {"alg": algorithm, "kid": kid}
    claims = {"sub": "alice", "exp": time.time() + 60, "iss": "master"}
    text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def pem(key: Any, form: Any = serialization.PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
async def test_each_type_of_key_is_accepted(
    keyed: ChatServer, key: Any, algorithm: str, kid: str
) -> None:
    assert (await tried(keyed, signed(key, algorithm, kid)))[0] == 200
    for wrong, code in [
        ({"exp": time.time() - 1}, "TOKEN_EXPIRED"),
        ({"iss": "someone"}, "UNAUTHENTICATED"),
        ({"sub": ""}, "UNAUTHENTICATED"),
    ]:
        status, answer = await tried(keyed, signed(key, algorithm, kid, **wrong))
        assert (status, answer["error"]["code"]) == (401, code)
    given = signed(key, algorithm, kid)
    status, answer = await tried(
        keyed, given[:-6] + ("AAAAAA" if given[-6:] != "AAAAAA" else "BBBBBB")
    )
    assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED")


WRONG: dict[str, Callable[[], str]] = {
    "the shared secret": lambda: signed(JWT_SECRET, "HS256", None),
    "the shared secret, by a kid": lambda: signed(JWT_SECRET, "HS256", "rsa"),
    "the shared secret, as published": lambda: signed(JWT_SECRET, "HS256", "oct"),
    "a public key as a secret": lambda: forged(pem(RSA), "rsa"),
    "a public key as a secret, PKCS1": lambda: forged(
        pem(RSA, serialization.PublicFormat.PKCS1), "rsa"
    ),
    "a public curve key as a secret": lambda: forged(pem(EC), "ec"),
    "somebody else's key": lambda: signed(OTHER, "RS256", "rsa"),
    "an unknown kid": lambda: signed(RSA, "RS256", "nonsense"),
    "no kid": lambda: signed(RSA, "RS256", None),
    "another key's kid": lambda: signed(RSA, "RS256", "ec"),
    "RS512": lambda: signed(RSA, "RS512", "rsa"),
    "PS256": lambda: signed(RSA, "PS256", "rsa"),
    "a curve of its own": lambda: signed(P384, "ES384", "p384"),
    "a curve by another name": lambda: forged(b"x", "p384", "ES256"),
    "a key that signs nothing": lambda: forged(b"x", "x25519", "EdDSA"),
    "an algorithm of another key": lambda: forged(b"x", "rsa", "ES256"),
    "no algorithm": lambda: forged(b"", "rsa", "none"),
    "a kid of nothing": lambda: signed(RSA, "RS256", ""),
    "a kid that is a path": lambda: signed(RSA, "RS256", "../../etc/passwd"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_no_other_key_is_accepted(keyed: ChatServer, name: str) -> None:
    status, answer = await tried(keyed, WRONG[name]())
    assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED")


async def test_made_up_kids_do_not_make_the_server_fetch_keys_again_and_again(
    keyed: ChatServer, keys: KeyServer, people_of: Callable[[ChatServer], People]
) -> None:
    alice = people_of(keyed)("alice")
    asked = keys.asked
    for n in range(20):
        headers = {"Authorization": f"Bearer {signed(RSA, 'RS256', f'made-up-{n}')}"}
        assert (await alice.request("GET", "/conversations", headers=headers))[0] == 401
    assert keys.asked <= asked + 1


async def test_a_set_of_one_key_needs_no_kid(keys: KeyServer, start: Starter) -> None:
    keys.serve({"keys": [public(None, ECAlgorithm, EC)]})
    server = await start(AUTH_JWKS_URL=keys.url)
    assert (await tried(server, signed(EC, "ES256", None)))[0] == 200
    assert (await tried(server, signed(RSA, "RS256", None)))[0] == 401
    keys.serve({"keys": KEYS})


async def test_without_keys_the_server_is_unavailable_until_there_are_some(
    keys: KeyServer, start: Starter
) -> None:
    """Whatever the key server returns, it lets nobody in and breaks nothing."""
    server = await start(AUTH_JWKS_URL=keys.url)
    given = signed(RSA, "RS256", "rsa")

    for document, status in [
        ("nonsense", 200),
        ("", 200),
        ({"keys": KEYS}, 500),
        ({"keys": KEYS}, 302),
        ([], 200),
        (None, 200),
        ({}, 200),
        ({"keys": []}, 200),
        ({"keys": None}, 200),
        ({"keys": {"rsa": 1}}, 200),
        ({"keys": [None, 1, "x", [], {}]}, 200),
        ({"keys": [{"kty": "RSA", "kid": "rsa", "n": "x", "e": "y"}]}, 200),
    ]:
        keys.serve(document, status)
        asked = keys.asked
        while (
            keys.asked == asked
        ):  # refused without asking, until the pause after a failure is over
            code, answer = await tried(server, given)
            await asyncio.sleep(0.05)
        assert (code, answer["error"]["code"]) == (503, "UNAVAILABLE"), document
    keys.serve({"keys": [*KEYS, {"kty": "nonsense", "kid": "new"}, {"kty": "RSA", "kid": "bad"}]})
    await until_ok(server)
    keys.serve({"keys": KEYS})


async def test_a_request_that_waits_for_missing_keys_is_answered_all_the_same(
    keys: KeyServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(AUTH_JWKS_URL=keys.url))
    enough = asyncio.Event()

    async def stuck() -> web.Response:
        await enough.wait()
        return web.json_response({"keys": KEYS})

    keys.answer = stuck
    headers = {"Authorization": f"Bearer {signed(RSA, 'RS256', 'rsa')}"}
    started = time.monotonic()
    status, answer = await people("alice").request("GET", "/conversations", headers=headers)
    assert (status, answer["error"]["code"]) == (503, "UNAVAILABLE")
    assert time.monotonic() - started < 5 * slowness()
    enough.set()
    keys.serve({"keys": KEYS})
    assert (await people("alice").request("GET", "/conversations", headers=headers))[0] == 200
