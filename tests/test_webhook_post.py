"""Posting one event: what becomes of it with receivers of every kind."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chatserver import __version__
from chatserver.outbox.event import Event
from chatserver.outbox.sink import Delivery
from chatserver.outbox.webhook import Webhook

from .posting import event, posting
from .receiver import Answer, Flood, Receiver, Reply, drip, hang_up, raw, redirect_to, stall
from .receiver import too_many as too_many_requests
from .servers import ROOT, free_port

OK = b"HTTP/1.1 200 OK\r\n"


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as one:
        yield one


@pytest_asyncio.fixture
async def webhook(receiver: Receiver) -> AsyncIterator[Webhook]:
    async with posting(receiver.url) as one:
        yield one


# --- delivery -----------------------------------------------------------------------------------


async def test_an_event_is_posted_with_its_headers(receiver: Receiver, webhook: Webhook) -> None:
    assert await webhook.deliver(event()) == Delivery("delivered")
    (post,) = receiver.posts
    assert post.event == {
        "id": "evt_c1-00000001",
        "type": "message.created",
        "timestamp": "2026-11-21T09:30:00.000Z",
        "data": {"conversationId": "c1", "seq": 1, "content": "Привет"},
    }
    assert set(post.headers) == {
        *("Host", "Content-Type", "Content-Length", "User-Agent", "Accept", "Accept-Encoding"),
        *("X-Webhook-Event", "X-Webhook-Id", "X-Webhook-Signature"),
    }
    assert post.headers["User-Agent"] == f"chatserver/{__version__}"
    assert post.path == "/webhooks"


async def test_both_secrets_sign_while_one_is_rotated() -> None:
    secrets = ("new-secret", "old-secret")
    async with Receiver(*secrets) as receiver, posting(receiver.url, secrets=secrets) as webhook:
        assert await webhook.deliver(event()) == Delivery("delivered")


async def test_each_attempt_is_signed_anew_under_the_same_id(
    receiver: Receiver, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answer = lambda post: 503 if post.attempt == 1 else 200
    began = time.time()
    assert (await webhook.deliver(event())).outcome == "failed"
    monkeypatch.setattr("chatserver.outbox.webhook.time.time", lambda: began + 5)
    assert (await webhook.deliver(event())).outcome == "delivered"
    first, second = receiver.attempts(event().id)
    assert f"t={int(began + 5)}," in second.headers["X-Webhook-Signature"]
    assert first.headers["X-Webhook-Signature"] != second.headers["X-Webhook-Signature"]
    assert first.body == second.body


async def test_connections_are_kept_and_no_more_than_allowed_are_opened(
    receiver: Receiver, webhook: Webhook
) -> None:
    receiver.answer = lambda post: Answer(200, body=b"thank you")
    for number in range(20):
        assert (await webhook.deliver(event(number))).outcome == "delivered"
    assert receiver.connections == 1
    await asyncio.gather(*[webhook.deliver(event(number)) for number in range(20, 100)])
    assert len(receiver.events) == 100
    assert 1 < receiver.connections <= 4


async def test_a_name_and_password_in_the_url_are_sent_as_a_header(receiver: Receiver) -> None:
    url = receiver.url.replace("http://", "http://master:pass%20word@") + "?from=chat"
    async with posting(url) as webhook:
        assert await webhook.deliver(event()) == Delivery("delivered")
    (post,) = receiver.posts
    assert post.headers["Authorization"] == "Basic bWFzdGVyOnBhc3Mgd29yZA=="
    assert post.path == "/webhooks?from=chat"


async def test_cookies_are_not_sent_back(receiver: Receiver, webhook: Webhook) -> None:
    receiver.answer = lambda post: Answer(200, {"Set-Cookie": "a=b"})
    for number in range(2):
        await webhook.deliver(event(number))
    assert all("Cookie" not in post.headers for post in receiver.posts)


async def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with posting(receiver.url) as webhook:
        assert await webhook.deliver(event()) == Delivery("delivered")


# --- answers ------------------------------------------------------------------------------------

FAILED: dict[str, tuple[Reply, str]] = {
    "an error": (500, "answered 500"),
    "a refusal": (401, "answered 401"),
    "not modified": (304, "answered 304"),
    "other protocols": (
        raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "answered 101",
    ),
    "no answer": (stall, "did not answer within 2 s"),
    "a closed connection": (hang_up, "closed the connection without an answer"),
    "half a head": (raw(OK), "closed the connection without an answer"),
    "garbage": (
        raw(b"\x00\xff\xfe SSH-2.0\r\n\r\n"),
        "answered what is not HTTP, or headers that are too long",
    ),
    "a long header": (
        raw(OK + b"A: " + b"b" * 5000 + b"\r\n\r\n", stay=True),
        "answered what is not HTTP, or headers that are too long",
    ),
    "many headers": (
        raw(OK + b"A: b\r\n" * 100 + b"\r\n", stay=True),
        "answered what is not HTTP, or headers that are too long",
    ),
    "headers that do not end": (
        drip(OK, b"A: b\r\n", every_s=0.1),
        "did not answer within 2 s",
    ),
    "interim answers that do not end": (
        drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", every_s=0.05),
        "did not answer within 2 s",
    ),
}


@pytest.mark.parametrize(("reply", "says"), FAILED.values(), ids=FAILED)
async def test_what_is_no_2xx_is_a_failure_and_the_next_event_goes_out(
    receiver: Receiver, webhook: Webhook, reply: Reply, says: str
) -> None:
    receiver.answer = lambda post: reply if post.event["data"]["seq"] == 1 else 200
    began = time.monotonic()
    assert await webhook.deliver(event(1)) == Delivery("failed", says)
    assert time.monotonic() - began < 2.5
    assert len(receiver.posts) == 1
    assert await webhook.deliver(event(2)) == Delivery("delivered")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivery(receiver: Receiver, webhook: Webhook, status: int) -> None:
    receiver.answer = lambda post: status
    assert await webhook.deliver(event()) == Delivery("delivered")


async def test_410_ends_the_attempts(receiver: Receiver, webhook: Webhook) -> None:
    receiver.answer = lambda post: 410
    assert await webhook.deliver(event()) == Delivery(
        "gone", "answered 410: it wants no more of this"
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    receiver: Receiver, webhook: Webhook, status: int
) -> None:
    async with Receiver() as elsewhere:
        receiver.answer = lambda post: redirect_to(elsewhere.url, status)
        assert await webhook.deliver(event()) == Delivery(
            "failed", f"redirects to elsewhere ({status})"
        )
        assert not elsewhere.posts


def _date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


RETRY_AFTER: dict[str, tuple[str, float, float]] = {
    "seconds": ("7", 7, 7),
    "with spaces": (" 7 ", 7, 7),
    "now": ("0", 0, 0),
    "too many seconds": ("99999999999999999999", 3600, 3600),
    "a date": (_date(3000), 1500, 3000),
    "a past date": (_date(-600), 0, 0),
    "a far date": (_date(10**6), 3600, 3600),
    "negative": ("-5", 0, 0),
    "a fraction": ("1.5", 0, 0),
    "digits of elsewhere": ("٣", 0, 0),
    "a word": ("soon", 0, 0),
    "no such date": ("Fri, 99 Nov 99999 99:99:99 GMT", 0, 0),
    "empty": ("", 0, 0),
}


@pytest.mark.parametrize(("asked", "least", "most"), RETRY_AFTER.values(), ids=RETRY_AFTER)
async def test_retry_after_is_heard_within_bounds(
    receiver: Receiver, webhook: Webhook, asked: str, least: float, most: float
) -> None:
    receiver.answer = lambda post: too_many_requests(asked)
    answer = await webhook.deliver(event())
    assert answer.says == "answered 429"
    assert least <= answer.retry_after_s <= most
    receiver.answer = lambda post: Answer(503, {"Retry-After": asked})
    assert least <= (await webhook.deliver(event())).retry_after_s <= most
    receiver.answer = lambda post: Answer(500, {"Retry-After": asked})
    assert (await webhook.deliver(event())).retry_after_s == 0


# --- bodies of answers --------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "outcome"), [(200, "delivered"), (500, "failed")])
async def test_a_long_body_is_not_read(
    receiver: Receiver, webhook: Webhook, status: int, outcome: str
) -> None:
    flood = Flood(status)
    receiver.answer = lambda post: flood
    began = time.monotonic()
    assert (await webhook.deliver(event())).outcome == outcome
    assert time.monotonic() - began < 0.5
    await asyncio.sleep(0.3)
    # What lies in the sockets' buffers was never read.
    assert flood.sent < 20 * 2**20
    receiver.answer = lambda post: 200
    assert await webhook.deliver(event()) == Delivery("delivered")
    assert receiver.connections == 2


BODIES = {
    "stalls": raw(OK + b"Content-Length: 10\r\n\r\nhal", stay=True),
    "ends early": raw(OK + b"Content-Length: 10\r\n\r\nhal"),
    "drips": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", every_s=0.1),
    "has bad chunks": drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"no hex\r\n", every_s=0.1),
    "claims to be gzip": Answer(200, {"Content-Encoding": "gzip"}, b"no gzip"),
    "has no length": raw(OK + b"\r\nyes"),
}


@pytest.mark.parametrize("reply", BODIES.values(), ids=BODIES)
async def test_a_2xx_is_delivery_whatever_becomes_of_its_body(
    receiver: Receiver, webhook: Webhook, reply: Reply
) -> None:
    receiver.answer = lambda post: reply
    began = time.monotonic()
    assert await webhook.deliver(event()) == Delivery("delivered")
    assert time.monotonic() - began < 1.5
    receiver.answer = lambda post: 200
    assert await webhook.deliver(event()) == Delivery("delivered")
    assert len(receiver.posts) == 2


# --- connections --------------------------------------------------------------------------------


async def test_a_request_that_meets_a_closed_connection_is_sent_again_at_once(
    receiver: Receiver, webhook: Webhook
) -> None:
    def close_when_reused(post: Any) -> Reply:
        return hang_up if post.connection == 1 and post.event["data"]["seq"] == 2 else 200

    receiver.answer = close_when_reused
    assert await webhook.deliver(event(1)) == Delivery("delivered")
    assert await webhook.deliver(event(2)) == Delivery("delivered")
    assert [post.connection for post in receiver.attempts(event(2).id)] == [1, 2]


async def test_a_receiver_that_always_hangs_up_is_not_asked_for_ever(
    receiver: Receiver, webhook: Webhook
) -> None:
    await webhook.deliver(event(1))
    receiver.answer = lambda post: hang_up
    assert await webhook.deliver(event(2)) == Delivery(
        "failed", "closed the connection without an answer"
    )
    assert len(receiver.attempts(event(2).id)) == 2


async def test_a_receiver_that_restarts_loses_nothing(receiver: Receiver, webhook: Webhook) -> None:
    await asyncio.gather(*[webhook.deliver(event(number)) for number in range(8)])
    await receiver.close()
    assert await webhook.deliver(event(8)) == Delivery("failed", "refused the connection")
    await receiver.open()
    assert await webhook.deliver(event(8)) == Delivery("delivered")
    assert [one["data"]["seq"] for one in receiver.events][-1] == 8


async def test_a_receiver_that_does_not_accept_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        port = full.getsockname()[1]
        # The queue of connections that nobody accepts is filled.
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        async with posting(f"http://127.0.0.1:{port}/", timeout_s=0.5) as webhook:
            began = time.monotonic()
            assert await webhook.deliver(event()) == Delivery(
                "failed", "did not answer within 0.5 s"
            )
            assert time.monotonic() - began < 1
        for one in crowd:
            one.close()


async def test_an_attempt_that_waits_for_a_connection_waits_within_its_time(
    receiver: Receiver,
) -> None:
    receiver.answer = lambda post: stall
    async with posting(receiver.url, concurrency=1, timeout_s=0.5) as webhook:
        began = time.monotonic()
        outcomes = await asyncio.gather(*[webhook.deliver(event(number)) for number in range(3)])
        assert {one.outcome for one in outcomes} == {"failed"}
        assert time.monotonic() - began < 1
        receiver.answer = lambda post: 200
        assert await webhook.deliver(event()) == Delivery("delivered")


async def test_being_cancelled_ends_the_request(receiver: Receiver, webhook: Webhook) -> None:
    receiver.answer = lambda post: stall
    task = asyncio.create_task(webhook.deliver(event()))
    await receiver.until(lambda: len(receiver.posts) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "ftp://127.0.0.1/", "ws://127.0.0.1/", "http://", "http:///x"),
        *("http://[::1/", "http://127.0.0.1:99999/", "http://2130706433/", "http://127.1/"),
    ],
)
async def test_a_url_that_cannot_be_right_ends_the_attempts(url: str) -> None:
    async with posting(url) as webhook:
        assert await webhook.deliver(event()) == Delivery("gone", "its URL is not valid")


async def test_an_event_that_cannot_be_written_fails_and_the_log_keeps_the_url(
    webhook: Webhook, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Event("evt_1", "message.created", event().at, {1, 2})  # type: ignore[arg-type]
    answer = await webhook.deliver(broken)
    assert answer == Delivery("failed", "could not be posted: TypeError")
    logged = capsys.readouterr().out
    assert "evt_1" in logged
    assert str(receiver.port) not in logged
    assert not receiver.posts


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed, with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subject = ("-subj", "/CN=elsewhere.example", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            *subject,
            "-keyout",
            str(path),
            "-out",
            str(path.with_suffix(".crt")),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


@pytest_asyncio.fixture
async def https_url(certificate: Path) -> AsyncIterator[str]:
    """Of a server that takes whatever it gets."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_a_certificate_that_nobody_vouches_for_is_refused(https_url: str) -> None:
    async with posting(https_url) as webhook:
        assert await webhook.deliver(event()) == Delivery(
            "failed", "TLS: its certificate is refused: it is self-signed"
        )


async def test_ssl_cert_file_names_who_else_is_trusted(https_url: str, certificate: Path) -> None:
    script = f"""
import asyncio
from tests.posting import event, posting

async def main():
    async with posting({https_url!r}) as webhook:
        print(await webhook.deliver(event()))

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        cwd=ROOT,
        env={**os.environ, "SSL_CERT_FILE": str(certificate.with_suffix(".crt"))},
        stdout=subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert said.decode().strip() == str(Delivery("delivered"))


async def test_https_to_a_server_without_it_fails(receiver: Receiver) -> None:
    async with posting(receiver.url.replace("http", "https", 1)) as webhook:
        answer = await webhook.deliver(event())
    assert answer.outcome == "failed"
    assert answer.says.startswith("TLS failed: ")
    assert "127.0.0.1" not in answer.says
