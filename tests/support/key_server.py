"""A server that publishes the keys that verify tokens, and tokens that are signed with them."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest_asyncio
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from .patience import PATIENCE_S
from .servers import JWT_SECRET, ChatServer
from .tokens import over_rest, tried

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
P384 = ec.generate_private_key(ec.SECP384R1())
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public(kid: str | None, algorithm: Any, key: Any, **more: Any) -> dict[str, Any]:
    named = {} if kid is None else {"kid": kid}
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **named, **more}


KEYS = [
    public("rsa", RSAAlgorithm, RSA),
    public("ec", ECAlgorithm, EC, alg="ES256", use="sig"),
    public("ed", OKPAlgorithm, ED),
    # Keys of types that no valid token is signed with.
    public("p384", ECAlgorithm, P384),
    {"kty": "OKP", "crv": "X25519", "kid": "x25519", "x": encoded(bytes(32))},
    # A shared secret in a public document verifies nothing.
    {"kty": "oct", "kid": "oct", "k": encoded(JWT_SECRET.encode())},
]


@dataclass
class KeyServer:
    """Serves a key set over HTTP, and can be made to serve something else."""

    port: int = 0
    asked: int = 0
    answer: Callable[[], Awaitable[web.StreamResponse]] = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    def serve(self, document: Any, status: int = 200) -> None:
        async def answer() -> web.Response:
            text = document if isinstance(document, str) else json.dumps(document)
            return web.Response(text=text, status=status, headers={"Location": self.url})

        self.answer = answer

    async def handle(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        return await self.answer()


@pytest_asyncio.fixture(scope="module")
async def keys() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    app = web.Application()
    app.router.add_get("/keys", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    server.serve({"keys": KEYS})
    yield server
    await runner.cleanup()


def signed(key: Any, algorithm: str, kid: Any, **claims: Any) -> str:
    claims = {"sub": "alice", "exp": time.time() + 60, "iss": "master", **claims}
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims, key, algorithm, headers=headers)


async def until_ok(server: ChatServer) -> None:
    """Waits until the pause after a failure is over."""
    given = signed(RSA, "RS256", "rsa")
    async with asyncio.timeout(PATIENCE_S):
        # One door after the other: the pause can end between a request at one and at the other.
        while (await over_rest(server, given))[0] != 200:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.1)
    assert (await tried(server, given))[0] == 200
