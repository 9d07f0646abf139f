"""Webhook signatures, and the code that docs/webhooks.md gives to receivers."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from chatserver.outbox.signing import BadSignature, sign, verify
from tests.support.one_event import event, posting
from tests.support.servers import ROOT

SECRET, OLD, OTHER = "the-secret-of-the-receiver", "the-old-secret", "somebody-else's-secret"
BODY = '{"id":"evt_1","type":"user.online","data":{"name":"Zoë"}}'.encode()
NOW = 1_795_253_400


def check(header: str | None, body: bytes = BODY, secret: Any = SECRET, **options: Any) -> None:
    verify(body, header, secret, **{"now": NOW} | options)


def test_the_header_is_exactly_what_the_protocol_says() -> None:
    mac = hmac.new(SECRET.encode(), f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    assert sign(BODY, [SECRET], NOW) == f"t={NOW},v1={mac}"
    old = hmac.new(OLD.encode(), f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    assert sign(BODY, [SECRET, OLD], NOW) == f"t={NOW},v1={mac},v1={old}"


@given(st.binary(), st.lists(st.text(min_size=1), min_size=1, max_size=4), st.data())
def test_a_signature_verifies_with_any_of_the_secrets(
    body: bytes, secrets: list[str], data: st.DataObject
) -> None:
    header = sign(body, secrets, NOW)
    for secret in secrets:
        verify(body, header, secret, now=NOW)
    verify(body, header, [OTHER, data.draw(st.sampled_from(secrets))], now=NOW)


@given(st.data())
def test_a_change_anywhere_is_refused(data: st.DataObject) -> None:
    header = sign(BODY, [SECRET], NOW)
    position = data.draw(st.integers(0, len(BODY) - 1))
    byte = bytes([BODY[position] ^ data.draw(st.integers(1, 255))])
    with pytest.raises(BadSignature):
        check(header, BODY[:position] + byte + BODY[position + 1 :])
    digit = data.draw(st.integers(header.index("v1=") + 3, len(header) - 1))
    other = "0" if header[digit] != "0" else "1"
    with pytest.raises(BadSignature):
        check(header[:digit] + other + header[digit + 1 :])


def test_the_time_is_part_of_what_is_signed() -> None:
    header = sign(BODY, [SECRET], NOW - 1000).replace(str(NOW - 1000), str(NOW))
    with pytest.raises(BadSignature, match="does not match"):
        check(header)


@pytest.mark.parametrize("age", [-300, 0, 300])
def test_a_signature_may_be_five_minutes_off(age: int) -> None:
    check(sign(BODY, [SECRET], NOW - age))


@pytest.mark.parametrize("age", [-301, 301, 10**6])
def test_a_signature_further_off_is_refused(age: int) -> None:
    with pytest.raises(BadSignature, match="old; the limit is 300 s"):
        check(sign(BODY, [SECRET], NOW - age))


def test_the_tolerance_is_an_option_and_the_default_clock_is_the_machine_s() -> None:
    header = sign(BODY, [SECRET], int(time.time()) - 20)
    verify(BODY, header, SECRET)
    with pytest.raises(BadSignature):
        verify(BODY, header, SECRET, tolerance_s=10)


def test_unknown_parts_spaces_and_order_do_not_matter() -> None:
    at, v1 = sign(BODY, [SECRET], NOW).split(",")
    check(f"{v1}, {at}")
    check(f"v2=abc,{at},x,v0=,{v1},=,")
    check(f"{at},v1=,v1=é,v1={'0' * 64},{v1}")


def garbage(now: int) -> dict[str, str | None]:
    good = sign(BODY, [SECRET], now)
    return {
        "nothing": None,
        "empty": "",
        "no time": good.partition(",")[2],
        "no signature": good.partition(",")[0],
        "only v2": good.replace("v1", "v2"),
        "two times": f"t=1,{good}",
        "a time with a sign": good.replace("t=", "t=+"),
        "a time with a fraction": good.replace(str(now), f"{now}.0"),
        "digits of elsewhere": good.replace(str(now), "١٢٣"),
        "a long time": good.replace(str(now), str(now) * 20),
        "a short signature": good[:-1],
        "not text": "\udcff\x00",
        "a secret instead": f"t={now},v1={SECRET}",
    }


@pytest.mark.parametrize("header", garbage(NOW).values(), ids=garbage(NOW))
def test_garbage_is_refused(header: str | None) -> None:
    with pytest.raises(BadSignature):
        check(header)


@pytest.mark.parametrize("more", [",v1=00" * 16, "," * 5000])
def test_an_expensive_header_is_refused(more: str) -> None:
    with pytest.raises(BadSignature, match="too"):
        check(sign(BODY, [SECRET], NOW) + more)


@given(st.text())
def test_any_other_header_raises_nothing_but_bad_signature(header: str) -> None:
    with pytest.raises(BadSignature):
        check(header)


@pytest.mark.parametrize("secret", ["", [], [SECRET, ""]])
def test_verifying_without_a_secret_is_a_mistake_of_the_receiver(secret: Any) -> None:
    with pytest.raises(ValueError, match="no secret") as raised:
        check(sign(BODY, [""], NOW), secret=secret)
    assert not isinstance(raised.value, BadSignature)


def test_the_module_imports_only_the_standard_library() -> None:
    script = """
import sys
before = set(sys.modules)
from chatserver.outbox.signing import verify
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"chatserver"}


# --- the code of the page -----------------------------------------------------------------------


def snippet(name: str) -> str:
    """The code block of docs/webhooks.md whose first line is a comment with this name."""
    page = (ROOT / "docs" / "webhooks.md").read_text()
    found = re.findall(rf"```\w+\n((?:#|//) {re.escape(name)}\n.*?)```", page, re.DOTALL)
    assert len(found) == 1, name
    return str(found[0])


def test_every_python_and_javascript_block_of_the_page_is_tested() -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text()
    names = re.findall(r"```(?:python|js)\n(?:#|//) (\S+)\n", page)
    assert len(names) == len(re.findall(r"```(?:python|js)\n", page))
    assert set(names) == {
        *("with_chatserver.py", "without_chatserver.py", "once.py"),
        *("verify.mjs", "receiver.mjs"),
    }


IsGenuine = Callable[[bytes, str | None], bool]


@pytest.fixture(params=["with_chatserver.py", "without_chatserver.py"])
def is_genuine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> IsGenuine:
    monkeypatch.setenv("WEBHOOK_SECRET", f"{SECRET},{OLD}")
    names: dict[str, Any] = {}
    exec(compile(snippet(request.param), request.param, "exec"), names)  # noqa: S102
    found: IsGenuine = names["is_genuine"]
    return found


def test_the_python_of_the_page_tells_genuine_from_forged(is_genuine: IsGenuine) -> None:
    now = int(time.time())
    assert is_genuine(BODY, sign(BODY, [SECRET], now))
    assert is_genuine(BODY, sign(BODY, [OLD], now))
    assert is_genuine(BODY, sign(BODY, [OTHER, OLD], now))
    assert is_genuine(BODY, "v2=x, " + sign(BODY, [SECRET], now - 290))
    assert not is_genuine(BODY, sign(BODY, [OTHER], now))
    assert not is_genuine(BODY + b" ", sign(BODY, [SECRET], now))
    assert not is_genuine(BODY, sign(BODY, [SECRET], now - 310))
    assert not is_genuine(BODY, sign(BODY, [SECRET], now + 310))
    for what, header in garbage(now).items():
        assert not is_genuine(BODY, header), what


def test_the_page_processes_an_event_once_and_stores_no_id_if_the_work_fails() -> None:
    names: dict[str, Any] = {}
    exec(compile(snippet("once.py"), "once.py", "exec"), names)  # noqa: S102
    database = sqlite3.connect(":memory:")
    database.execute(names["TABLE"])
    database.execute("CREATE TABLE greeted (name TEXT)")

    def greet(database: sqlite3.Connection, event: dict[str, Any]) -> None:
        database.execute("INSERT INTO greeted VALUES (?)", (event["data"]["name"],))

    def fail(database: sqlite3.Connection, event: dict[str, Any]) -> None:
        greet(database, event)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        names["take"](database, BODY, fail)
    for _ in range(3):
        names["take"](database, BODY, greet)
    assert database.execute("SELECT * FROM greeted").fetchall() == [("Zoë",)]
    assert database.execute("SELECT count(*) FROM taken").fetchone() == (1,)


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """The page's receiver, run unchanged: its URL and its output."""
    for name in ("verify.mjs", "receiver.mjs"):
        (tmp_path / name).write_text(snippet(name))
    process = await asyncio.create_subprocess_exec(
        *("node", str(tmp_path / "receiver.mjs")),
        env={**os.environ, "WEBHOOK_SECRET": f"{SECRET},{OLD}", "PORT": "0"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    yield f"http://127.0.0.1:{int(said.split()[-1])}/", process.stdout
    process.kill()
    await process.wait()


async def test_the_node_receiver_of_the_page_tells_genuine_from_forged(
    node: tuple[str, asyncio.StreamReader],
) -> None:
    url, printed = node
    now = int(time.time())

    async def answers(header: str | None, body: bytes = BODY) -> int:
        headers = {"X-Webhook-Signature": header} if header is not None else {}
        async with session.post(url, data=body, headers=headers) as answer:
            return answer.status

    async with aiohttp.ClientSession() as session:
        assert await answers(sign(BODY, [OTHER], now)) == 401
        assert await answers(sign(BODY, [SECRET], now), BODY + b" ") == 401
        assert await answers(sign(BODY, [SECRET], now - 310)) == 401
        assert await answers(sign(BODY, [SECRET], now + 310)) == 401
        assert await answers(None) == 401
        for header in ("", "t", "t=1", "v1=", f"t={now},v1", f"t={now},v1=zz", "t=1," * 1000):
            assert await answers(header) == 401, header
        assert await answers(sign(BODY, [SECRET], now)) == 204
        assert await answers(sign(BODY, [OLD], now)) == 204
        assert await answers("v2=x, " + sign(BODY, [OTHER, OLD], now - 290)) == 204
    # Only one event was accepted, once.
    async with posting(url, secrets=(SECRET,)) as webhook:
        assert (await webhook.post(event())).outcome == "delivered"
    assert await printed.readline() == b"user.online evt_1\n"
    assert await printed.readline() == f"message.created {event().id}\n".encode()
