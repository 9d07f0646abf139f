"""The command line, run as a process."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.support.command import run
from tests.support.redises import Keeping
from tests.support.servers import (
    INTERNAL_SECRET,
    JWT_SECRET,
    ROOT,
    WEBHOOK_SECRET,
    ChatServer,
    free_port,
)

LONG = "x" * 32


@pytest_asyncio.fixture
async def new(tmp_path: Path, mongo_url: str, worker: str) -> Any:
    """A development server that generated its own secrets."""
    server = ChatServer(
        mongo_url, f"cli-{worker}", tmp_path / "log", DATA_DIR=str(tmp_path / "data")
    )
    for key in ("AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET"):
        del server.env[key]
    await server.start()
    yield server
    await server.stop()


async def test_a_token_is_signed_with_the_newest_secret() -> None:
    secrets = {
        "AUTH_JWT_SECRET": f"{JWT_SECRET},{LONG}",
        "INTERNAL_API_SECRET": LONG,
        "WEBHOOK_SECRET": LONG,
    }
    made = await run("token", "--user", "alice", "--name", "Alice A", ENV="production", **secrets)
    claims = jwt.decode(made.out.strip(), JWT_SECRET, ["HS256"])
    assert claims == {
        "sub": "alice",
        "name": "Alice A",
        "iat": claims["iat"],
        "exp": claims["iat"] + 3600,
    }
    assert abs(claims["iat"] - time.time()) < 60


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800)]
)
async def test_a_token_is_valid_for_the_requested_time(
    text: str, seconds: int, tmp_path: Path
) -> None:
    settings = {"AUTH_JWT_SECRET": JWT_SECRET, "DATA_DIR": str(tmp_path), "AUTH_JWT_ISSUER": "me"}
    made = await run("token", "--user", "alice", "--expires", text, **settings)
    claims = jwt.decode(made.out.strip(), JWT_SECRET, ["HS256"], issuer="me")
    assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1w", "-1h", "0s", "1.5h"])
async def test_a_bad_duration_is_refused_with_a_sentence(text: str, tmp_path: Path) -> None:
    made = await run("token", "--user", "alice", f"--expires={text}", DATA_DIR=str(tmp_path))
    assert (made.code, made.out) == (2, "")
    assert "is not a duration such as 30s, 15m, 1h or 7d." in made.err


async def test_generated_secrets_survive_a_restart_and_only_their_owner_can_read_them(
    new: ChatServer,
) -> None:
    kept = Path(new.env["DATA_DIR"]) / "secrets.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    first = json.loads(kept.read_text())
    for key, secret in first.items():
        assert f"{key} {secret}" in " ".join(new.log.split())
    made = await run("token", "--user", "alice", DATA_DIR=new.env["DATA_DIR"])
    await new.stop()
    await new.start()
    assert json.loads(kept.read_text()) == first
    headers = {"Authorization": f"Bearer {made.out.strip()}"}
    async with (
        ClientSession() as http,
        http.get(f"{new.rest}/api/conversations", headers=headers) as answer,
    ):
        assert answer.status == 200


async def test_the_printed_lines_send_a_first_message_from_node(new: ChatServer) -> None:
    lines = re.search(r"^const token.*?^}\);$", new.log, re.DOTALL | re.MULTILINE)
    assert lines
    assert len(lines[0].splitlines()) == 6
    for form in ([], ["--input-type=module"]):
        node = await asyncio.create_subprocess_exec(
            *("node", *form, "-e", lines[0]),
            cwd=ROOT / "tests" / "js",
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(node.communicate(), 20)
        assert b"ok: true" in said
        assert b"Hello, Bob!" in said


async def test_the_printed_token_of_bob_reads_what_alice_sent(new: ChatServer) -> None:
    tokens = dict(re.findall(r"^(alice|bob) +(ey\S+)$", new.log, re.MULTILINE))
    async with ClientSession() as http:
        headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
        url = f"{new.rest}/api/conversations"
        async with http.post(
            f"{url}/direct", json={"userId": "bob"}, headers=headers["alice"]
        ) as answer:
            talk = await answer.json()
        async with http.get(f"{url}/{talk['id']}", headers=headers["bob"]) as answer:
            assert answer.status == 200


async def test_production_prints_no_tokens_and_generates_no_secrets(
    tmp_path: Path, mongo_url: str, worker: str
) -> None:
    data = tmp_path / "data"
    server = ChatServer(
        mongo_url, f"cli-{worker}", tmp_path / "log", ENV="production", DATA_DIR=str(data)
    )
    await server.start()
    await server.stop()
    for secret in (JWT_SECRET, INTERNAL_SECRET, WEBHOOK_SECRET, "eyJ"):
        assert secret not in server.log
    assert not data.exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ENV": "production"}, "AUTH_JWT_SECRET is missing"),
        ({"ENV": "production", "AUTH_JWT_SECRET": "short"}, "AUTH_JWT_SECRET is too short"),
        ({"ENV": "production", "AUTH_JWT_SECRET": LONG}, "INTERNAL_API_SECRET is missing"),
        ({"PORT": "many"}, '"PORT"'),
        ({"WS_PORT": "65536"}, '"WS_PORT"'),
        ({"RATE_LIMITS": "perhaps"}, '"RATE_LIMITS"'),
        ({"DATA_DIR": "/dev/null/data"}, "DATA_DIR cannot be used"),
    ],
)
async def test_bad_settings_prevent_the_start_with_a_sentence(
    settings: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    ran = await run("serve", **{"DATA_DIR": str(tmp_path), **settings})
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert len(ran.err.splitlines()) == 1


async def test_a_damaged_secrets_file_is_reported(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"AUTH_JWT_SECRET": "x"}', "\x00"):
        (tmp_path / "secrets.json").write_text(text)
        ran = await run("token", "--user", "alice", DATA_DIR=str(tmp_path))
        assert ran.code == 2
        assert "is damaged. Remove it" in ran.err


async def test_a_port_that_is_taken_says_so(
    new: ChatServer, tmp_path: Path, mongo_url: str
) -> None:
    second = {**new.env, "WS_PORT": str(free_port())}
    ran = await run("serve", **second)
    assert ran.code == 1
    assert "Set PORT or WS_PORT" in ran.err


async def test_an_unreachable_mongodb_is_reported(tmp_path: Path) -> None:
    ran = await run(
        "serve", DATA_DIR=str(tmp_path), MONGO_URL=f"mongodb://127.0.0.1:{free_port()}/"
    )
    assert ran.code == 1
    assert ran.err.startswith("MongoDB is not available: ")
    assert len(ran.err.splitlines()) == 1


async def test_the_doctor_finds_no_problem_with_a_running_server(new: ChatServer) -> None:
    ran = await run("doctor", **new.env)
    assert ran.code == 0, ran.out
    assert "writable primary of replica set" in ran.out
    assert ran.out.count("a chatserver is already listening") == 2
    assert "PROBLEM" not in ran.out


async def test_the_doctor_names_every_problem_and_a_remedy(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    ran = await run(
        "doctor",
        HOST="127.0.0.1",
        PORT=str(port),
        WS_PORT=str(free_port()),
        DATA_DIR=str(tmp_path),
        MONGO_URL=f"mongodb://127.0.0.1:{free_port()}/",
        REDIS_URL=f"redis://:the-password@127.0.0.1:{free_port()}/0",
    )
    taken.close()
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == ["OK", "PROBLEM", "PROBLEM", "PROBLEM", "OK"]
    for line, word in zip(
        lines, ["settings", "MONGO_URL", "REDIS_URL", "set PORT", "free"], strict=True
    ):
        assert word in line
    assert "the-password" not in ran.out


async def test_the_doctor_checks_redis(tmp_path: Path, redis_of: Keeping) -> None:
    server = await redis_of(requirepass="s:ec/ret")
    settings = {"DATA_DIR": str(tmp_path), "PORT": "0", "WS_PORT": "0"}
    for password, says in (
        ("s%3Aec%2Fret", "OK       redis: answers"),
        ("wrong", "PROBLEM  redis: no connection (WRONGPASS"),
    ):
        url = f"valkey://:{password}@127.0.0.1:{server.port}"
        assert says in (await run("doctor", REDIS_URL=url, **settings)).out


async def test_the_doctor_checks_the_redis_rights_that_this_server_needs(
    tmp_path: Path, redis_of: Keeping
) -> None:
    server = await redis_of()
    rights = ("&chat:ours:*", "+publish", "+subscribe", "+unsubscribe", "+ping")
    async with server.client() as redis:
        await redis.execute_command("ACL", "SETUSER", "node", "reset", "on", ">pw", *rights)
    url = f"redis://node:pw@127.0.0.1:{server.port}"
    settings = {"DATA_DIR": str(tmp_path), "PORT": "0", "WS_PORT": "0", "REDIS_URL": url}
    assert "OK       redis" in (await run("doctor", MONGO_DATABASE="ours", **settings)).out
    theirs = (await run("doctor", MONGO_DATABASE="theirs", **settings)).out
    assert "PROBLEM  redis: no connection (" in theirs
    assert "chat_bus_up 0" in " ".join(theirs.split())


async def test_the_version_is_that_of_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", (await run("version")).out)
