"""Posting one event over TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chatserver.outbox.sinks.sink import Delivery
from tests.support.one_event import event, posting
from tests.support.receiver import Receiver
from tests.support.servers import ROOT

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate and its key."""
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
    """The URL of a server that accepts everything."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_an_untrusted_certificate_is_refused(https_url: str) -> None:
    async with posting(https_url) as webhook:
        assert await webhook.post(event()) == Delivery(
            "failed", "TLS: its certificate is refused: it is self-signed"
        )


async def test_ssl_cert_file_adds_a_trusted_certificate(https_url: str, certificate: Path) -> None:
    script = f"""
import asyncio
from tests.support.one_event import event, posting

async def main():
    async with posting({https_url!r}) as webhook:
        print(await webhook.post(event()))

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


async def test_https_to_a_plain_http_server_fails(receiver: Receiver) -> None:
    async with posting(receiver.url.replace("http", "https", 1)) as webhook:
        answer = await webhook.post(event())
    assert answer.outcome == "failed"
    assert answer.detail.startswith("TLS failed: ")
    assert "127.0.0.1" not in answer.detail
