"""Authentication with tokens signed with the shared secret."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import Starter
from tests.support.people import People, ask, token
from tests.support.servers import INTERNAL_SECRET, JWT_SECRET, ChatServer, chat_server
from tests.support.shapes import bad_token, error
from tests.support.tokens import tried, tried_by_socket

NEWER = "the-newer-secret-of-32-bytes-or-more"
ISSUER, AUDIENCE = "https://master.example", "chat"


@pytest_asyncio.fixture(scope="module")
async def strict(
    mongo_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatServer]:
    """A server with two secrets that checks issuer and audience, and accepts only known users."""
    log: Path = tmp_path_factory.mktemp("strict") / "log"
    async with chat_server(
        mongo_url,
        f"strict-{worker}",
        log,
        AUTH_JWT_SECRET=f"{NEWER}, {JWT_SECRET}",
        AUTH_JWT_ISSUER=ISSUER,
        AUTH_JWT_AUDIENCE=AUDIENCE,
        AUTH_REQUIRE_KNOWN_USER="true",
    ) as running:
        yield running


def parts(given: str) -> tuple[str, str, str]:
    head, body, signature = given.split(".")
    return head, body, signature


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(header: Any, claims: Any, secret: str = JWT_SECRET, how: str = "sha256") -> str:
    """Returns a token built by hand, because a library would refuse to make it."""
    text = f"{encoded(header)}.{encoded(claims)}"
    signature = hmac.new(secret.encode(), text.encode(), how).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def later(**claims: Any) -> dict[str, Any]:
    return {"sub": "mallory", "exp": time.time() + 60, **claims}


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_PEM = RSA_KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
HS256 = {"alg": "HS256", "typ": "JWT"}

BAD: dict[str, Callable[[], str]] = {
    "nbf text": lambda: signed(HS256, later(nbf="tomorrow")),
    "exp boolean": lambda: signed(HS256, later(exp=True)),
    "exp huge": lambda: signed(HS256, later(exp=10**400)),
    "empty": lambda: "",
    "nonsense": lambda: "nonsense",
    "dots": lambda: "..",
    "not ascii": lambda: "ü.ü.ü",
    "another secret": lambda: token("mallory", secret="x" * 40),
    "no secret": lambda: signed(HS256, later(), ""),
    "the secret list": lambda: token("mallory", secret=f"{NEWER},{JWT_SECRET}"),
    "the internal secret": lambda: token("mallory", secret=INTERNAL_SECRET),
    "no signature": lambda: ".".join([*parts(token("mallory"))[:2], ""]),
    "alg none": lambda: f"{encoded({'alg': 'none'})}.{encoded(later())}.",
    "alg None": lambda: f"{encoded({'alg': 'None'})}.{encoded(later())}.",
    "alg none, signed": lambda: signed({"alg": "none"}, later()),
    "no alg": lambda: signed({"typ": "JWT"}, later()),
    "alg null": lambda: signed({"alg": None}, later()),
    "alg object": lambda: signed({"alg": {"$gt": ""}}, later()),
    "HS384": lambda: signed({"alg": "HS384"}, later(), how="sha384"),
    "HS512": lambda: signed({"alg": "HS512"}, later(), how="sha512"),
    "RS256": lambda: jwt.encode(later(), RSA_PEM, "RS256"),
    "RS256 by name": lambda: signed({"alg": "RS256"}, later()),
    "kid object": lambda: signed({**HS256, "kid": {"$gt": ""}}, later()),
    "crit": lambda: signed({**HS256, "crit": ["b64"], "b64": False}, later()),
    "no exp": lambda: signed(HS256, {"sub": "mallory"}),
    "exp null": lambda: signed(HS256, later(exp=None)),
    "exp text": lambda: signed(HS256, later(exp="tomorrow")),
    "exp object": lambda: signed(HS256, later(exp={"$gt": ""})),
    "exp infinite": lambda: signed(HS256, later(exp=float("inf"))),
    "exp nan": lambda: signed(HS256, later(exp=float("nan"))),
    "not yet": lambda: signed(HS256, later(nbf=time.time() + 600)),
    "no sub": lambda: signed(HS256, {"exp": time.time() + 60}),
    "sub null": lambda: signed(HS256, later(sub=None)),
    "sub number": lambda: signed(HS256, later(sub=7)),
    "sub list": lambda: signed(HS256, later(sub=["mallory"])),
    "sub object": lambda: signed(HS256, later(sub={"$gt": ""})),
    "sub empty": lambda: signed(HS256, later(sub="")),
    "sub long": lambda: signed(HS256, later(sub="x" * 129)),
    "sub NUL": lambda: signed(HS256, later(sub="a\0b")),
    "sub surrogate": lambda: signed(HS256, later(sub="\ud800")),
    "claims a list": lambda: signed(HS256, ["mallory"]),
    "claims a text": lambda: signed(HS256, "mallory"),
    "header a list": lambda: signed(["HS256"], later()),
    "cut": lambda: token("mallory")[:-2],
    "one more": lambda: token("mallory") + ".x",
    "changed": lambda: ".".join(
        [parts(token("alice"))[0], encoded(later()), parts(token("alice"))[2]]
    ),
}


REASONS = {
    "missing": ["empty"],
    "malformed": [
        "nonsense",
        "dots",
        "not ascii",
        "kid object",
        "crit",
        "claims a list",
        "claims a text",
        "header a list",
        "one more",
    ],
    "signature": [
        "another secret",
        "no secret",
        "the secret list",
        "the internal secret",
        "no signature",
        "cut",
        "changed",
    ],
    "algorithm": [
        "alg none",
        "alg None",
        "alg none, signed",
        "no alg",
        "alg null",
        "alg object",
        "HS384",
        "HS512",
        "RS256",
        "RS256 by name",
    ],
    "claim": [
        "no exp",
        "exp null",
        "exp text",
        "exp object",
        "exp infinite",
        "exp nan",
        "nbf text",
        "exp boolean",
        "exp huge",
    ],
    "notYetValid": ["not yet"],
    "subject": [
        "no sub",
        "sub null",
        "sub number",
        "sub list",
        "sub object",
        "sub empty",
        "sub long",
        "sub NUL",
        "sub surrogate",
    ],
}
assert sorted(BAD) == sorted(name for names in REASONS.values() for name in names)


@pytest.mark.parametrize(
    ("name", "reason"), [(name, reason) for reason, names in REASONS.items() for name in names]
)
async def test_an_invalid_token_is_refused_at_every_door(
    people: People, name: str, reason: str
) -> None:
    status, answer = await tried(people.server, BAD[name]())
    assert (status, answer["error"]) == (401, bad_token(reason))


async def test_an_expired_token_has_its_own_code(people: People) -> None:
    alice = people("alice")
    for seconds in (-1, -100_000):
        status, answer = await tried(people.server, token(alice.id, expires_in=seconds))
        assert (status, answer["error"]) == (401, bad_token("expired"))
    # An expired token with a wrong signature is still invalid.
    status, answer = await tried(people.server, token(alice.id, expires_in=-1, secret="x" * 40))
    assert answer["error"]["code"] == "UNAUTHENTICATED"


async def test_a_token_is_valid_until_it_expires_and_no_longer(people: People) -> None:
    alice, bob = people("alice", "bob")
    end = int(time.time()) + 2
    given = signed(HS256, {"sub": alice.id, "exp": end})
    while time.time() < end - 0.5:
        assert (await tried(people.server, given))[0] == 200
        # A token that differs only in its expiry or its user is another token.
        for claims in ({"sub": alice.id, "exp": end + 9}, {"sub": bob.id, "exp": end}):
            changed = ".".join([parts(given)[0], encoded(claims), parts(given)[2]])
            assert (await tried(people.server, changed))[0] == 401
        await asyncio.sleep(0.4)
    await asyncio.sleep(end - time.time() + 0.05)
    status, answer = await tried(people.server, given)
    assert (status, answer["error"]) == (401, bad_token("expired"))


async def test_clocks_may_differ(start: Starter, people_of: Callable[[ChatServer], People]) -> None:
    people = people_of(await start(AUTH_LEEWAY_S="30"))
    alice = people("alice")
    now = time.time()
    for claims in (
        {"iat": now + 2},
        {"iat": now + 10_000},
        {"iat": "tomorrow"},
        {"nbf": now + 20},
        {"exp": now - 20},
    ):
        given = signed(HS256, {"sub": alice.id, "exp": now + 60, **claims})
        assert (await tried(people.server, given))[0] == 200, claims
        # The socket is not closed either.
        desk = await alice.connect(with_token=given)
        await asyncio.sleep(0.2)
        await desk.caught_up()
        await desk.do("auth:refresh", {"token": given})
    for claims, expected in (
        ({"nbf": now + 100}, bad_token("notYetValid")),
        ({"exp": now - 31}, bad_token("expired")),
    ):
        given = signed(HS256, {"sub": alice.id, "exp": now + 60, **claims})
        assert (await tried(people.server, given))[1]["error"] == expected


async def test_a_socket_is_closed_when_its_token_and_the_leeway_have_passed(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start(AUTH_LEEWAY_S="2"))
    given = signed(HS256, {"sub": people("alice").id, "exp": time.time() + 0.5})
    desk = await people("alice").connect(with_token=given)
    began = time.monotonic()
    assert await desk.hears("error") == bad_token("expired")
    assert time.monotonic() - began > 1.5


async def test_the_log_says_why_a_token_is_refused(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    people = people_of(await start())
    desk = await people("alice").connect()
    for name in ("HS384", "exp text", "sub empty"):
        await tried(people.server, BAD[name]())
        assert (await desk.refused("auth:refresh", {"token": BAD[name]()})).details
    lines = [json.loads(line) for line in people.server.log.splitlines() if '"reason"' in line]
    for event in ("request", "refused"):
        reasons = [line["reason"] for line in lines if line["event"] == event]
        assert set(reasons) == {"algorithm", "claim", "subject"}
        assert len(reasons) >= 3
    assert len([line for line in lines if line["event"] == "refused"]) >= 6  # a connect, a refresh


async def test_a_token_may_have_the_prefix_of_the_header(people: People) -> None:
    alice = people("alice")
    for prefix in ("Bearer ", "bearer  "):
        desk = await alice.connect(with_token=prefix + alice.token)
        await desk.do("auth:refresh", {"token": prefix + alice.token})
    status, answer = await tried(people.server, f"Token {alice.token}")
    assert (status, answer["error"]) == (401, bad_token("malformed"))


async def test_a_token_is_read_only_from_the_header(people: People) -> None:
    alice = people("alice")
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert (await tried(people.server, alice.token, scheme))[0] == 200
    url = f"{people.server.rest}/api/conversations"
    for path, headers in [
        (f"?token={alice.token}", {}),
        (f"?access_token={alice.token}", {}),
        ("", {"Authorization": alice.token}),
        ("", {"Authorization": f"Token {alice.token}"}),
        ("", {"Cookie": f"token={alice.token}"}),
        ("", {"X-User-Id": alice.id}),
    ]:
        status, answer = await ask(people.session, "GET", url + path, None, headers)
        assert (status, answer["error"]) == (401, bad_token("missing")), (path, headers)
    for given in (None, 7, True, [], {"$gt": ""}, {"token": alice.token}):
        assert await tried_by_socket(people.server, given) == "UNAUTHENTICATED"


async def test_unexpected_claims_do_no_harm(people: People) -> None:
    alice = people("alice")
    claims: dict[str, Any] = {
        "iss": "someone",
        "aud": ["a", "b"],
        "name": {"$gt": ""},
        "role": "owner",
    }
    for exp in (time.time() + 60, int(time.time()) + 60, str(int(time.time()) + 60), 2**52):
        given = signed({**HS256, "kid": "x"}, {"sub": alice.id, "exp": exp, **claims})
        assert (await tried(people.server, given))[0] == 200
    assert (await people.master("GET", f"/users/{alice.id}"))[1]["name"] is None


async def test_a_token_that_expires_after_the_year_9999_is_valid(people: People) -> None:
    alice = people("alice")
    for exp in (2**33, 2**40, 2**52, 1e18, 1e300):
        given = signed(HS256, {"sub": alice.id, "exp": exp})
        assert (await tried(people.server, given))[0] == 200, exp
        desk = await alice.connect(with_token=given)
        assert set(await desk.do("auth:refresh", {"token": given})) == {"expiresAt"}
        await desk.caught_up()


async def test_a_token_may_carry_the_name_of_a_new_user(people: People) -> None:
    alice, bob = people("alice", "bob")
    assert (await tried(people.server, token(alice.id, name="Alice Ünal")))[0] == 200
    assert (await people.master("GET", f"/users/{alice.id}"))[1]["name"] == "Alice Ünal"
    for odd in ("x" * 201, "", "\ud800", 7):
        await tried(people.server, token(bob.id, name=odd))
    assert (await people.master("GET", f"/users/{bob.id}"))[1]["name"] is None


async def sync(server: ChatServer, user_id: str, **more: Any) -> None:
    async with aiohttp.ClientSession() as session:
        url, secret = f"{server.rest}/api/users/sync", {"X-Internal-Secret": INTERNAL_SECRET}
        status, answer = await ask(
            session, "POST", url, {"externalUserId": user_id, **more}, secret
        )
        assert status in (200, 201), answer


async def test_every_secret_of_the_list_is_valid_and_the_claims_are_checked(
    strict: ChatServer,
) -> None:
    await sync(strict, "alice")
    right = {"iss": ISSUER, "aud": AUDIENCE}
    for secret in (NEWER, JWT_SECRET):
        for claims in (right, {**right, "aud": ["other", AUDIENCE]}):
            assert (await tried(strict, token("alice", secret=secret, **claims)))[0] == 200
        given = token("alice", secret=secret, expires_in=-5, **right)
        assert (await tried(strict, given))[1]["error"] == bad_token("expired")
    for claims, reason in (
        ({}, "issuer"),
        ({"iss": ISSUER}, "audience"),
        ({"aud": AUDIENCE}, "issuer"),
        ({**right, "iss": "https://other.example"}, "issuer"),
        ({**right, "iss": ISSUER + "/"}, "issuer"),
        ({**right, "aud": "other"}, "audience"),
        ({**right, "aud": []}, "audience"),
        ({**right, "aud": {"$gt": ""}}, "audience"),
        ({**right, "iss": [ISSUER]}, "issuer"),
    ):
        status, answer = await tried(strict, signed(HS256, later(sub="alice", **claims)))
        assert (status, answer["error"]) == (401, bad_token(reason)), claims
    status, _ = await tried(strict, token("alice", secret=f"{NEWER}, {JWT_SECRET}", **right))
    assert status == 401


async def test_where_users_must_be_known_nobody_else_is_accepted(strict: ChatServer) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE}
    status, answer = await tried(strict, token("nobody", **claims))
    assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED")
    await sync(strict, "bob")
    assert (await tried(strict, token("bob", **claims)))[0] == 200
    url, bob = f"{strict.rest}/api/conversations", token("bob", **claims)
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {bob}"}
        for path, body, field in [
            ("", {"type": "group", "participantIds": ["bob", "nobody"]}, "participantIds"),
            ("/direct", {"userId": "nobody"}, "userId"),
            ("/private", {"userIds": ["nobody"]}, "userIds"),
        ]:
            status, answer = await ask(session, "POST", url + path, body, headers)
            assert (status, list(answer["error"]["details"])) == (400, [field])
        acting = {"X-Internal-Secret": INTERNAL_SECRET, "X-User-Id": "nobody"}
        status, answer = await ask(session, "GET", url, None, acting)
        assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED")
    await sync(strict, "nobody")
    assert (await tried(strict, token("nobody", **claims)))[0] == 200


async def test_a_blocked_user_is_refused_at_every_door(start: Starter) -> None:
    server = await start()
    await sync(server, "bob", status="blocked")
    for _ in range(2):
        status, answer = await tried(server, token("bob"))
        assert (status, answer["error"]) == (403, error("FORBIDDEN"))
    await sync(server, "bob", status="active")
    assert (await tried(server, token("bob")))[0] == 200
