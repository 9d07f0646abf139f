"""A server with an invalid setting does not start, and names the setting."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chatserver.api.http import bind
from chatserver.settings import BadSettings, Settings
from tests.support.patience import PATIENCE_S
from tests.support.people import token
from tests.support.servers import ROOT, ChatServer, free_port

SECRET = "a-secret-that-is-long-enough-for-production"
PRODUCTION = {
    "ENV": "production",
    "AUTH_JWT_SECRET": SECRET,
    "INTERNAL_API_SECRET": SECRET,
    "WEBHOOK_SECRET": SECRET,
}
NOWHERE = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=1"


async def refusal(folder: Path, **settings: str) -> str:
    """Starts a server that must fail. Returns the last line that it prints."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOST": "127.0.0.1",
        "DATA_DIR": str(folder),
        "MONGO_URL": NOWHERE,
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatserver", "serve"),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode in (1, 2)
    text = output.decode()
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "65536"),
        ("WS_PORT", "-1"),
        ("ENV", "prod"),
        ("RATE_LIMITS", "maybe"),
        ("DOCS", "maybe"),
        ("PLAYGROUND", "maybe"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("MESSAGE_MAX_CHARS", "0"),
        ("MESSAGE_MAX_CHARS", "1e4"),
        ("MESSAGE_MAX_CHARS", "1000000"),
        ("PRESENCE_GRACE_S", "-1"),
        ("PRESENCE_GRACE_S", "nan"),
        ("TYPING_TIMEOUT_S", "inf"),
        ("PING_INTERVAL_S", "0"),
        ("PING_TIMEOUT_S", "soon"),
        ("KEEP_ALIVE_S", "0"),
        ("DRAIN_S", "-0.1"),
        ("SOCKETS_PER_USER", "-1"),
        ("SOCKETS_PER_ADDRESS", "many"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "127.0.0.1, proxy.example"),
        ("AUTH_REQUIRE_KNOWN_USER", "perhaps"),
        ("AUTH_JWKS_URL", "nonsense"),
        ("AUTH_JWKS_URL", "file:///etc/passwd"),
        ("WEBHOOK_URL", "ftp://master.example/hooks"),
        ("MONGO_URL", "nonsense"),
        ("REDIS_URL", "nonsense"),
        ("REDIS_URL", "redis://:pass/word@redis:6379/0"),
        ("MONGO_DATABASE", "a b"),
        ("MONGO_DATABASE", "$gt"),
        ("MONGO_DATABASE", "local"),
        ("MONGO_URL", "mongodb://127.0.0.1:99999/"),
        ("MONGO_URL", "mongodb://user:p@ss:word@127.0.0.1/"),
        ("AUTH_JWKS_URL", "https://login.example:99999/jwks.json"),
        ("AUTH_JWKS_URL", "https://login.example/j wks.json"),
        ("AUTH_JWKS_URL", "https://:443/jwks.json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999"),
        ("INTERNAL_API_SECRET", "two\nlines-of-a-secret-of-32-bytes-and-more"),
        *(
            ("CORS_ORIGINS", f"https://a.example,{wrong}")
            for wrong in (
                *(
                    "chat.example.com",
                    "https://",
                    "https://*.example.com",
                    "https://a.example/chat",
                ),
                *("https://a.example?x", "https://a.example#x", "https://user@a.example"),
                *(
                    "https://a.example:99999",
                    "https://a b",
                    "wss://a.example",
                    "https:///a",
                    "*.a.example",
                ),
            )
        ),
        *(
            ("HOST", wrong)
            for wrong in (
                "http://127.0.0.1",
                "127.0.0.1:3000",
                "[::1]:3000",
                "*",
                "10.0.0.0/8",
                "a b",
            )
        ),
    ],
)
def test_a_bad_value_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(BadSettings, match=rf"\b{key}\b"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("key", "value", "name", "read"),
    [
        (
            "CORS_ORIGINS",
            "https://chat.example.com/, HTTPS://Chat.Example.com:443,http://a.example:80/,http://a.example:8080",
            "cors_origins",
            (
                *("https://chat.example.com", "https://chat.example.com"),
                *("http://a.example", "http://a.example:8080"),
            ),
        ),
        (
            "CORS_ORIGINS",
            "https://münchen.example",
            "cors_origins",
            ("https://xn--mnchen-3ya.example",),
        ),
        ("CORS_ORIGINS", "http://[0:0:0:0:0:0:0:1]:80", "cors_origins", ("http://[::1]",)),
        (
            "CORS_ORIGINS",
            "capacitor://localhost,file://,null,*",
            "cors_origins",
            ("capacitor://localhost", "file://", "null", "*"),
        ),
        ("HOST", " 10.0.0.1, [::1] ,chat-a", "host", ("10.0.0.1", "::1", "chat-a")),
        ("HOST", "::", "host", ("::", "0.0.0.0")),  # noqa: S104
        ("HOST", "0.0.0.0,::", "host", ("0.0.0.0", "::")),  # noqa: S104
        ("HOST", " , ", "host", ("localhost",)),
        ("TRUSTED_PROXIES", "::ffff:10.0.0.0/104", "trusted_proxies", (ip_network("10.0.0.0/8"),)),
        ("TRUSTED_PROXIES", "::/0", "trusted_proxies", (ip_network("::/0"),)),
        (
            "AUTH_JWT_ISSUER",
            " https://a.example/ , b",
            "auth_jwt_issuer",
            ("https://a.example/", "b"),
        ),
        (
            "AUTH_JWKS_URL",
            "https://a.example/jwks.json ",
            "auth_jwks_url",
            "https://a.example/jwks.json",
        ),
        (
            "MONGO_URL",
            "mongodb+srv://u:p%40@a.example/?useUnifiedTopology=true",
            "mongo_url",
            "mongodb+srv://u:p%40@a.example/?useUnifiedTopology=true",
        ),
    ],
)
def test_a_value_that_could_never_match_is_normalised(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str, name: str, read: Any
) -> None:
    monkeypatch.setenv(key, value)
    assert getattr(Settings.from_environment(), name) == read


def test_the_password_of_a_refused_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URL", "mongodb://user:p@77word@127.0.0.1:99999/")
    with pytest.raises(BadSettings) as refused:
        Settings.from_environment()
    assert "77word" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"), [("WS_PORT", "x"), ("RATE_LIMITS", ""), ("PRESENCE_GRACE_S", "nan")]
)
async def test_a_bad_value_stops_the_start(tmp_path: Path, key: str, value: str) -> None:
    assert key in await refusal(tmp_path, **{key: value})


@pytest.mark.parametrize("key", ["AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET"])
async def test_production_needs_every_secret(tmp_path: Path, key: str) -> None:
    given = {name: value for name, value in PRODUCTION.items() if name != key}
    sentence = await refusal(tmp_path, **given)
    assert key in sentence
    assert "missing" in sentence
    assert not (tmp_path / "secrets.json").exists()


@pytest.mark.parametrize("key", ["AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET"])
@pytest.mark.parametrize(
    "value", ["", " , ", "too-short-to-be-a-secret-of-32b", f"{SECRET}, short"]
)
def test_production_needs_secrets_that_are_long_enough(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    for name, right in PRODUCTION.items():
        monkeypatch.setenv(name, right)
    Settings.from_environment()
    monkeypatch.setenv(key, value)
    with pytest.raises(BadSettings, match=rf"^{key} is (missing|too short)") as refused:
        Settings.from_environment()
    assert "short-to-be" not in str(refused.value)  # the value is a secret


async def test_a_port_that_is_in_use_stops_the_start(tmp_path: Path, mongo_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for key, other in (("PORT", "WS_PORT"), ("WS_PORT", "PORT")):
            settings = {"MONGO_URL": mongo_url, key: port, other: str(free_port())}
            sentence = await refusal(tmp_path, **settings)
            assert key in sentence
            assert port in sentence


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_a_host_that_is_not_here_stops_the_start(
    tmp_path: Path, mongo_url: str, host: str
) -> None:
    ports = {"PORT": str(free_port()), "WS_PORT": str(free_port())}
    assert "HOST" in await refusal(tmp_path, MONGO_URL=mongo_url, HOST=host, **ports)


def answers(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host, port)) == 0


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        # 127.0.0.2 stands for the other addresses of this machine.
        ("", ("127.0.0.1", "::1")),
        ("::", ("127.0.0.1", "127.0.0.2", "::1")),
        ("127.0.0.1,::1", ("127.0.0.1", "::1")),
        ("127.0.0.2, 127.0.0.1,127.0.0.1", ("127.0.0.1", "127.0.0.2")),
        ("0.0.0.0", ("127.0.0.1", "127.0.0.2")),  # noqa: S104
    ],
)
async def test_the_server_listens_where_it_was_told_to(
    start: Callable[..., Awaitable[ChatServer]], host: str, reached: tuple[str, ...]
) -> None:
    server = await start(HOST=host, WEBHOOK_RELAY="off")
    if not host and ("::1", 0) not in {
        info[4][:2] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    }:
        reached = ("127.0.0.1",)
    for port in (server.port, server.ws_port):
        assert [
            where for where in ("127.0.0.1", "127.0.0.2", "::1") if answers(where, port)
        ] == list(reached)


def test_a_name_may_have_addresses_that_this_machine_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    addresses = {"localhost": ["192.0.2.1", "127.0.0.1", "127.0.0.1"], "elsewhere": ["192.0.2.1"]}
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, **_: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses[host]
        ],
    )
    (bound,) = bind(["localhost"], port)
    with bound:
        assert bound.getsockname() == ("127.0.0.1", port)
    for hosts in (["elsewhere"], ["localhost", "elsewhere"]):
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            bind(hosts, port)
    # Nothing stays open after a failure.
    bind(["localhost"], port)[0].close()


async def test_origins_are_compared_as_browsers_write_them(
    start: Callable[..., Awaitable[ChatServer]],
) -> None:
    server = await start(**PRODUCTION, CORS_ORIGINS="HTTPS://Chat.Example.com:443/")
    polling = f"{server.sockets}/socket.io/?EIO=4&transport=polling"
    async with aiohttp.ClientSession() as session:
        for origin, status in (
            ("https://chat.example.com", 200),
            ("http://chat.example.com", 400),
            ("https://chat.example.com.evil.example", 400),
        ):
            async with session.get(polling, headers={"Origin": origin}) as answer:
                assert answer.status == status
                if status == 200:
                    assert answer.headers["Access-Control-Allow-Origin"] == origin


async def test_production_starts_with_its_secrets_and_prints_none(
    tmp_path: Path, mongo_url: str, worker: str
) -> None:
    port, ws_port = free_port(), free_port()
    env = {
        **PRODUCTION,
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WS_PORT": str(ws_port),
        "MONGO_URL": mongo_url,
        "MONGO_DATABASE": f"production-{worker}",
        "DRAIN_S": "0",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatserver", "serve"),
        cwd=ROOT,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            printed = (await process.stdout.readline()).decode()
            while "listening" not in printed:
                printed += (await process.stdout.readline()).decode()
        headers = {"Authorization": f"Bearer {token('alice', secret=SECRET)}"}
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/api/conversations"
            async with session.get(url, headers=headers) as answer:
                assert answer.status == 200
            # Without configured origins, no page of another origin may connect.
            polling = f"http://127.0.0.1:{ws_port}/socket.io/?EIO=4&transport=polling"
            async with session.get(polling, headers={"Origin": "https://x.example"}) as answer:
                assert answer.status == 400
    finally:
        process.terminate()
        rest, _ = await process.communicate()
    assert process.returncode == 0
    assert SECRET not in printed + rest.decode()
    assert "eyJ" not in printed + rest.decode()
