"""Posting one event: the outcome of every kind of answer."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from chatserver.outbox.sinks.sink import Delivery
from chatserver.outbox.sinks.webhook import Webhook
from tests.support.one_event import event
from tests.support.patience import slowness
from tests.support.receiver import (
    Answer,
    Flood,
    Receiver,
    Reply,
    drip,
    hang_up,
    raw,
    redirect_to,
    stall,
)
from tests.support.receiver import too_many as too_many_requests

OK = b"HTTP/1.1 200 OK\r\n"


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
        "did not answer in HTTP, or with headers that are too long",
    ),
    "a long header": (
        raw(OK + b"A: " + b"b" * 5000 + b"\r\n\r\n", stay=True),
        "did not answer in HTTP, or with headers that are too long",
    ),
    "many headers": (
        raw(OK + b"A: b\r\n" * 100 + b"\r\n", stay=True),
        "did not answer in HTTP, or with headers that are too long",
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


@pytest.mark.parametrize(("reply", "detail"), FAILED.values(), ids=FAILED)
async def test_any_other_answer_is_a_failure_and_the_next_event_is_sent(
    receiver: Receiver, webhook: Webhook, reply: Reply, detail: str
) -> None:
    receiver.answer = lambda post: reply if post.event["data"]["seq"] == 1 else 200
    began = time.monotonic()
    assert await webhook.post(event(1)) == Delivery("failed", detail)
    assert time.monotonic() - began < 2.5 * slowness()
    assert len(receiver.posts) == 1
    assert await webhook.post(event(2)) == Delivery("delivered")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivery(receiver: Receiver, webhook: Webhook, status: int) -> None:
    receiver.answer = lambda post: status
    assert await webhook.post(event()) == Delivery("delivered")


async def test_410_gives_the_event_up(receiver: Receiver, webhook: Webhook) -> None:
    receiver.answer = lambda post: 410
    assert await webhook.post(event()) == Delivery(
        "gone", "answered 410: it does not want this event"
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    receiver: Receiver, webhook: Webhook, status: int
) -> None:
    async with Receiver() as elsewhere:
        receiver.answer = lambda post: redirect_to(elsewhere.url, status)
        assert await webhook.post(event()) == Delivery(
            "failed", f"answered {status}: redirects are not followed"
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
async def test_retry_after_is_respected_within_bounds(
    receiver: Receiver, webhook: Webhook, asked: str, least: float, most: float
) -> None:
    receiver.answer = lambda post: too_many_requests(asked)
    answer = await webhook.post(event())
    assert answer.detail == "answered 429"
    assert least <= answer.retry_after_s <= most
    receiver.answer = lambda post: Answer(503, {"Retry-After": asked})
    assert least <= (await webhook.post(event())).retry_after_s <= most
    receiver.answer = lambda post: Answer(500, {"Retry-After": asked})
    assert (await webhook.post(event())).retry_after_s == 0


@pytest.mark.parametrize(("status", "outcome"), [(200, "delivered"), (500, "failed")])
async def test_a_long_body_is_not_read(
    receiver: Receiver, webhook: Webhook, status: int, outcome: str
) -> None:
    flood = Flood(status)
    receiver.answer = lambda post: flood
    began = time.monotonic()
    assert (await webhook.post(event())).outcome == outcome
    assert time.monotonic() - began < 0.5 * slowness()
    await asyncio.sleep(0.3)
    # The rest stayed unread in the sockets' buffers.
    assert flood.sent < 20 * 2**20
    receiver.answer = lambda post: 200
    assert await webhook.post(event()) == Delivery("delivered")
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
async def test_a_2xx_is_delivery_even_if_its_body_breaks_off(
    receiver: Receiver, webhook: Webhook, reply: Reply
) -> None:
    receiver.answer = lambda post: reply
    began = time.monotonic()
    assert await webhook.post(event()) == Delivery("delivered")
    assert time.monotonic() - began < 1.5 * slowness()
    receiver.answer = lambda post: 200
    assert await webhook.post(event()) == Delivery("delivered")
    assert len(receiver.posts) == 2
