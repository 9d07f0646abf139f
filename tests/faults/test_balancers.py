"""The balancers of config/: the requests that they forward, and the addresses that they pass on."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import aiohttp
import pytest

from chatserver.settings import Settings
from tests.conftest import Starter
from tests.support.balanced import Balanced
from tests.support.bare import Polling
from tests.support.proxies import PROXIES, proxy
from tests.support.servers import INTERNAL_SECRET, ROOT


async def test_clients_reach_the_sockets_and_nothing_else(balanced: Balanced) -> None:
    _, _, balancer, people = balanced
    (alice,) = (people("alice"),)
    secret = {"X-Internal-Secret": INTERNAL_SECRET, "X-User-Id": alice.id}
    paths = ("/", "/health", "/ready", "/metrics", "/api/conversations", "/api/users/sync")
    for path in (
        *paths,
        "/socket.io/../metrics",
        "/socket.io/%2e%2e/metrics",
        "/socket.iox",
        "/socket.io/x",
    ):
        async with people.session.get(balancer.sockets + path, headers=secret) as answer:
            assert answer.status == 404, path
    # The Master Service reaches only /api, and other addresses do not reach even that.
    assert (await people.master("POST", "/users/sync", {"externalUserId": alice.id}))[0] == 201
    for path in ("/health", "/ready", "/metrics", "/socket.io/?EIO=4&transport=polling"):
        async with people.session.get(balancer.rest + path) as answer:
            assert answer.status == 404, path
    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=elsewhere, headers=secret) as session:
        async with session.get(f"{balancer.rest}/api/conversations") as answer:
            assert answer.status == 403
        for path in ("/socket.io/", "/socket.io"):
            url = f"{balancer.sockets}{path}?EIO=4&transport=polling"
            async with session.get(url) as answer:
                assert answer.status == 200


async def test_a_request_that_is_too_large_is_refused_by_the_balancer(balanced: Balanced) -> None:
    _, _, balancer, people = balanced
    alice, bob = people("alice", "bob")
    url = f"{balancer.sockets}/socket.io/?EIO=4&transport=polling"
    async with people.session.get(url, headers={"X-Long": "x" * 40_000}) as answer:
        assert answer.status in (400, 431, 494)
    polling = await Polling.connect(bob)
    assert (await polling.post("x" * 300_000))[0] == 413
    assert (await polling.post("42" + '["ping",{}]'))[0] == 200, "the session is not affected"
    many = {
        "users": [{"externalUserId": f"{alice.id}-{n}", "name": "n" * 200} for n in range(1000)]
    }
    assert (await people.master("POST", "/users/sync/batch", many))[0] == 200
    async with people.session.post(
        f"{balancer.rest}/api/users/sync", data=bytes(5_000_000)
    ) as answer:
        assert answer.status == 413


@pytest.mark.parametrize("name", PROXIES)
async def test_nodes_know_the_addresses_of_clients_whatever_the_clients_claim(
    start: Starter, tmp_path: Any, name: str
) -> None:
    settings = {"TRUSTED_PROXIES": "127.0.0.1/32", "SOCKETS_PER_ADDRESS": "2"}
    a, b = await start(NODE_NAME="a", **settings), await start(NODE_NAME="b", **settings)
    async with (
        proxy(name, tmp_path, (a, b)) as balancer,
        contextlib.AsyncExitStack() as open_sockets,
    ):
        opened: list[aiohttp.ClientWebSocketResponse] = []

        async def come(address: str, **headers: str) -> int:
            connector = aiohttp.TCPConnector(local_addr=(address, 0))
            session = await open_sockets.enter_async_context(
                aiohttp.ClientSession(connector=connector)
            )
            try:
                url = f"{balancer.sockets}/socket.io/?EIO=4&transport=websocket"
                opened.append(await session.ws_connect(url, headers=headers))
            except aiohttp.WSServerHandshakeError as error:
                return error.status
            return 101

        assert [await come("127.0.0.2") for _ in range(4)] == [101] * 4, "two on each node"
        assert await come("127.0.0.2") == 429
        assert await come("127.0.0.2", **{"X-Forwarded-For": "192.0.2.1"}) == 429
        assert await come("127.0.0.3") == 101


def test_a_balancer_keeps_connections_that_are_silent_for_as_long_as_allowed() -> None:
    longest = Settings().ping_interval_s + Settings().ping_timeout_s
    for name, keys in {
        "haproxy.cfg": ["timeout client", "timeout server", "timeout tunnel"],
        "nginx.conf": ["proxy_read_timeout", "proxy_send_timeout"],
    }.items():
        text = (ROOT / "config" / name).read_text()
        for key in keys:
            # Only the first one: later ones are for requests without a session, which are answered
            # immediately.
            found = re.search(rf"^\s*{key} (\d+)s;?$", text, re.MULTILINE)
            assert found, key
            assert int(found[1]) > longest
