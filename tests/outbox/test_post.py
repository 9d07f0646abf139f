"""Posting one event: headers, signatures and connections."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from chatserver import __version__
from chatserver.outbox.event import Event
from chatserver.outbox.relay.batches import Batches
from chatserver.outbox.relay.key_queue import KeyQueue
from chatserver.outbox.sinks.sink import Delivery
from chatserver.outbox.sinks.webhook import Webhook
from tests.support.one_event import event, posting
from tests.support.patience import slowness
from tests.support.receiver import Answer, Receiver, Reply, hang_up, stall
from tests.support.servers import free_port
from tests.support.shapes import message

OK = b"HTTP/1.1 200 OK\r\n"


async def test_an_event_is_posted_with_its_headers(receiver: Receiver, webhook: Webhook) -> None:
    assert await webhook.post(event()) == Delivery("delivered")
    (post,) = receiver.posts
    assert post.event == {
        "id": "evt_c1-00000001",
        "type": "message.created",
        "timestamp": "2026-11-21T09:30:00.000Z",
        "data": message(
            id="c1-00000001",
            conversationId="c1",
            seq=1,
            rev=1,
            senderId="alice",
            content="Привет",
        ),
    }
    assert set(post.headers) == {
        *("Host", "Content-Type", "Content-Length", "User-Agent", "Accept", "Accept-Encoding"),
        *("X-Webhook-Event", "X-Webhook-Id", "X-Webhook-Signature"),
    }
    assert post.headers["User-Agent"] == f"chatserver/{__version__}"
    assert post.path == "/webhooks"


async def test_both_secrets_sign_during_a_rotation() -> None:
    secrets = ("new-secret", "old-secret")
    async with Receiver(*secrets) as receiver, posting(receiver.url, secrets=secrets) as webhook:
        assert await webhook.post(event()) == Delivery("delivered")


async def test_each_attempt_is_signed_anew_under_the_same_id(
    receiver: Receiver, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answer = lambda post: 503 if post.attempt == 1 else 200
    began = time.time()
    assert (await webhook.post(event())).outcome == "failed"
    monkeypatch.setattr("chatserver.outbox.sinks.webhook.time.time", lambda: began + 5)
    assert (await webhook.post(event())).outcome == "delivered"
    first, second = receiver.attempts(event().id)
    assert f"t={int(began + 5)}," in second.headers["X-Webhook-Signature"]
    assert first.headers["X-Webhook-Signature"] != second.headers["X-Webhook-Signature"]
    assert first.body == second.body


async def test_connections_are_reused_and_limited(receiver: Receiver, webhook: Webhook) -> None:
    receiver.answer = lambda post: Answer(200, body=b"thank you")
    for number in range(1, 21):
        assert (await webhook.post(event(number))).outcome == "delivered"
    assert receiver.connections == 1
    await asyncio.gather(*[webhook.post(event(number)) for number in range(21, 101)])
    assert len(receiver.events) == 100
    assert 1 < receiver.connections <= 4


async def test_a_user_and_password_in_the_url_are_sent_as_a_header(receiver: Receiver) -> None:
    url = receiver.url.replace("http://", "http://master:pass%20word@") + "?from=chat"
    async with posting(url) as webhook:
        assert await webhook.post(event()) == Delivery("delivered")
    (post,) = receiver.posts
    assert post.headers["Authorization"] == "Basic bWFzdGVyOnBhc3Mgd29yZA=="
    assert post.path == "/webhooks?from=chat"


async def test_cookies_are_not_sent_back(receiver: Receiver, webhook: Webhook) -> None:
    receiver.answer = lambda post: Answer(200, {"Set-Cookie": "a=b"})
    for number in range(1, 3):
        await webhook.post(event(number))
    assert all("Cookie" not in post.headers for post in receiver.posts)


async def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with posting(receiver.url) as webhook:
        assert await webhook.post(event()) == Delivery("delivered")


async def test_a_request_on_a_closed_connection_is_sent_again_immediately(
    receiver: Receiver, webhook: Webhook
) -> None:
    def close_when_reused(post: Any) -> Reply:
        return hang_up if post.connection == 1 and post.event["data"]["seq"] == 2 else 200

    receiver.answer = close_when_reused
    assert await webhook.post(event(1)) == Delivery("delivered")
    assert await webhook.post(event(2)) == Delivery("delivered")
    assert [post.connection for post in receiver.attempts(event(2).id)] == [1, 2]


async def test_a_receiver_that_always_hangs_up_gets_a_limited_number_of_requests(
    receiver: Receiver, webhook: Webhook
) -> None:
    await webhook.post(event(1))
    receiver.answer = lambda post: hang_up
    assert await webhook.post(event(2)) == Delivery(
        "failed", "closed the connection without an answer"
    )
    assert len(receiver.attempts(event(2).id)) == 2


async def test_a_receiver_that_restarts_loses_nothing(receiver: Receiver, webhook: Webhook) -> None:
    await asyncio.gather(*[webhook.post(event(number)) for number in range(1, 8)])
    await receiver.close()
    assert await webhook.post(event(8)) == Delivery("failed", "refused the connection")
    await receiver.open()
    assert await webhook.post(event(8)) == Delivery("delivered")
    assert [event["data"]["seq"] for event in receiver.events][-1] == 8


async def test_connecting_is_part_of_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        port = full.getsockname()[1]
        # Fill the listen backlog, which nobody accepts.
        crowd = [socket.socket() for _ in range(4)]
        for connection in crowd:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
        async with posting(f"http://127.0.0.1:{port}/", timeout_s=0.5) as webhook:
            began = time.monotonic()
            assert await webhook.post(event()) == Delivery("failed", "did not answer within 0.5 s")
            assert time.monotonic() - began < 1 * slowness()
        for connection in crowd:
            connection.close()


async def test_waiting_for_a_connection_is_part_of_the_timeout(
    receiver: Receiver,
) -> None:
    receiver.answer = lambda post: stall
    async with posting(receiver.url, concurrency=1, timeout_s=0.5) as webhook:
        began = time.monotonic()
        outcomes = await asyncio.gather(*[webhook.post(event(number)) for number in range(1, 4)])
        assert {delivery.outcome for delivery in outcomes} == {"failed"}
        assert time.monotonic() - began < 1 * slowness()
        receiver.answer = lambda post: 200
        assert await webhook.post(event()) == Delivery("delivered")


async def test_cancelling_ends_the_request(receiver: Receiver, webhook: Webhook) -> None:
    receiver.answer = lambda post: stall
    task = asyncio.create_task(webhook.post(event()))
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
async def test_an_invalid_url_gives_the_event_up(url: str) -> None:
    async with posting(url) as webhook:
        assert await webhook.post(event()) == Delivery("gone", "its URL is not valid")


async def test_an_event_that_cannot_be_encoded_fails_and_the_log_does_not_show_the_url(
    webhook: Webhook, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Event("evt_1", "message.created", "c1", event().at, {1, 2})  # type: ignore[arg-type]
    batches = Batches("default", webhook, lambda queue: True, lambda *_: None, None)
    answer = await batches.deliver(KeyQueue("c1", behind=False), [broken])
    assert answer == [Delivery("failed", "request failed: TypeError")]
    logged = capsys.readouterr().out
    assert "evt_1" in logged
    assert str(receiver.port) not in logged
    assert not receiver.posts
