"""A server with an invalid setting does not start, and names the setting."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from chatserver.settings import BadSettings, Settings
from tests.support.patience import PATIENCE_S
from tests.support.people import token
from tests.support.servers import ROOT, free_port

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
    ],
)
def test_a_bad_value_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(BadSettings, match=rf"\b{key}\b"):
        Settings.from_environment()


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
