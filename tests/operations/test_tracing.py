"""Traces from an event or request, through the log, to the webhook and its receiver."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chatserver.settings import BadSettings, Settings
from tests.conftest import Starter
from tests.support.collector import Collector, Span
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.receiver import Post, Receiver
from tests.support.servers import ChatServer, free_port

Of = Callable[[ChatServer], People]
SERVER, CLIENT = 2, 3
LOG = {"log wait", "log commit", "announce"}
POST = "POST /api/conversations/{conversationId}/messages"


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as collector:
        yield collector


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def lines(server: ChatServer, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


async def posted(receiver: Receiver, content: str) -> Post:
    """Returns the webhook of the message with this text."""

    def found() -> list[Post]:
        return [post for post in receiver.posts if post.event["data"].get("content") == content]

    await receiver.until(lambda: bool(found()))
    (post,) = found()
    return post


async def trace_of(collector: Collector, post: Post, size: int) -> dict[str, Span]:
    """Returns the spans of a webhook's trace, once there are `size` of them."""
    version, trace, parent, flags = post.headers["traceparent"].split("-")
    assert (version, int(flags, 16) & 1) == ("00", 1)
    await collector.until(
        lambda: len([span for span in collector.spans if span.trace == trace]) >= size
    )
    spans = collector.of(trace)
    assert spans["webhook message.created"].id == parent, "the receiver continues from there"
    return spans


def assert_one_after_the_other(spans: dict[str, Span], root: Span) -> None:
    wait, commit, announce = (spans[name] for name in ("log wait", "log commit", "announce"))
    webhook = spans["webhook message.created"]
    for span in (wait, commit, announce, webhook):
        assert span.parent == root.id
        assert span.began <= span.ended
    assert root.began <= wait.began <= wait.ended <= commit.began
    assert commit.ended <= announce.began <= announce.ended <= root.ended
    assert commit.ended <= webhook.began, "sent after the commit"


async def test_a_message_over_a_socket_is_one_trace_to_its_webhook(
    start: Starter, people_of: Of, collector: Collector, receiver: Receiver
) -> None:
    server = await start(WEBHOOK_URL=receiver.url, **collector.settings)
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect("websocket")
    sent = await desk.say(talk, "Trace me")
    post = await posted(receiver, "Trace me")
    spans = await trace_of(collector, post, 5)
    assert set(spans) == {"message:send", *LOG, "webhook message.created"}
    root, webhook = spans["message:send"], spans["webhook message.created"]
    assert (root.parent, root.kind, webhook.kind) == ("", SERVER, CLIENT)
    assert_one_after_the_other(spans, root)
    assert spans["log commit"].attributes["chat.batch.changes"] == 1
    assert (root.service, webhook.service) == ("chatserver", "chatserver-relay")
    assert root.attributes["chat.door"] == "socket"
    assert root.attributes["chat.code"] == "OK"
    assert root.attributes["conversation_id"] == talk["id"]
    assert webhook.attributes["chat.endpoint"] == "default"
    assert webhook.attributes["chat.event.id"] == post.event["id"]
    # Log lines and traces refer to each other.
    (line,) = [line for line in lines(server, "event") if line["name"] == "message:send"]
    assert line["trace"] == root.trace
    assert line["sid"] == root.attributes["chat.sid"] == desk.client.get_sid()
    # Checked here, so that its absence means something where tracing is off.
    assert "google/_upb" in Path(f"/proc/{server.process.pid}/maps").read_text()
    # Spans contain neither the text nor the sender, and clients receive no trace ids.
    assert "Trace me" not in str(collector.spans)
    assert alice.id not in str(collector.spans)
    assert "trace" not in sent
    assert "trace" not in post.event["data"]


async def test_a_message_over_rest_continues_the_trace_of_its_caller(
    start: Starter, people_of: Of, collector: Collector, receiver: Receiver
) -> None:
    server = await start(WEBHOOK_URL=receiver.url, **collector.settings)
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    status, _ = await alice.request(
        "POST",
        f"/conversations/{talk['id']}/messages",
        {"content": "From afar"},
        headers={"traceparent": f"00-{trace}-{caller}-01", "X-Request-Id": "their-own.1"},
    )
    assert status == 201
    post = await posted(receiver, "From afar")
    spans = await trace_of(collector, post, 5)
    root = spans[POST]
    assert (root.trace, root.parent) == (trace, caller)
    assert set(spans) == {POST, *LOG, "webhook message.created"}
    assert_one_after_the_other(spans, root)
    assert root.attributes["http.request.method"] == "POST"
    assert root.attributes["http.route"] == "/api/conversations/{conversationId}/messages"
    assert root.attributes["http.response.status_code"] == 201
    assert root.attributes["chat.request"] == "their-own.1"
    (line,) = [line for line in lines(server, "request") if line["name"] == POST]
    assert (line["trace"], line["request"]) == (trace, "their-own.1")
    # The conversation was created in its own trace, which its webhook shares.
    created = receiver.posts[0]
    assert created.event["type"] == "conversation.created"
    spans = collector.of(created.headers["traceparent"].split("-")[1])
    assert "webhook conversation.created" in spans
    assert trace not in {span.trace for span in spans.values()}


async def test_changes_committed_together_are_linked(
    start: Starter, people_of: Of, collector: Collector
) -> None:
    server = await start(**collector.settings)
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect("websocket")
    await asyncio.gather(*[desk.say(talk, f"{n}") for n in range(40)])
    await collector.until(lambda: len(collector.named("announce")) == 40)
    await collector.until(lambda: len(collector.named("message:send")) == 40)
    of_trace = {span.trace: span for span in collector.named("message:send")}
    assert len(of_trace) == 40
    commits = collector.named("log commit")
    assert len(commits) == 40
    largest = max(commits, key=lambda commit: commit.attributes["chat.batch.changes"])
    assert largest.attributes["chat.batch.changes"] > 1
    for commit in commits:
        others = commit.attributes["chat.batch.changes"] - 1
        assert min(others, 15) <= len(commit.links) <= min(others, 16)
        assert set(commit.links) <= {root.id for root in of_trace.values()}
        assert of_trace[commit.trace].id not in commit.links


async def test_edits_members_and_refusals_are_traced(
    start: Starter, people_of: Of, collector: Collector, receiver: Receiver
) -> None:
    server = await start(WEBHOOK_URL=receiver.url, **collector.settings)
    alice, bob, carol = people_of(server)("alice", "bob", "carol")
    talk = await alice.group(bob)
    desk = await alice.connect("polling")
    sent = await desk.say(talk, "Tea?")
    await desk.do("message:edit", {"messageId": sent["id"], "content": "Coffee?"})
    await alice.ask("POST", f"/conversations/{talk['id']}/participants", {"userIds": [carol.id]})
    await desk.refused("message:edit", {"messageId": f"{talk['id']}-000000ff", "content": "No"})
    types = {"message.created", "message.updated", "participant.added"}
    await receiver.until(lambda: types <= {post.event["type"] for post in receiver.posts})
    adding = "POST /api/conversations/{conversationId}/participants"
    for event, name in (("message.updated", "message:edit"), ("participant.added", adding)):
        post = next(post for post in receiver.posts if post.event["type"] == event)
        trace = post.headers["traceparent"].split("-")[1]
        await collector.until(lambda trace=trace: len(collector.of(trace)) == 5)
        assert set(collector.of(trace)) == {name, *LOG, f"webhook {event}"}
    await collector.until(lambda: len(collector.named("message:edit")) == 2)
    refused = collector.named("message:edit")[1]
    assert (refused.attributes["chat.code"], refused.failed) == ("NOT_FOUND", False)
    # No request caused these: presence does not belong to the requests of that time.
    await receiver.until(lambda: "user.online" in {post.event["type"] for post in receiver.posts})
    online = [post for post in receiver.posts if post.event["type"] == "user.online"]
    assert all("traceparent" not in post.headers for post in online)


async def test_each_attempt_at_a_failing_receiver_is_a_span(
    start: Starter, people_of: Of, collector: Collector, receiver: Receiver
) -> None:
    receiver.answer = lambda post: 503 if post.attempt == 1 else 200
    server = await start(
        WEBHOOK_URL=receiver.url, WEBHOOK_RETRY_FIRST_S="0.1", **collector.settings
    )
    alice, bob = people_of(server)("alice", "bob")
    await alice.direct(bob)
    await collector.until(lambda: len(collector.named("webhook conversation.created")) == 2)
    first, second = collector.named("webhook conversation.created")
    assert (first.failed, second.failed) == (True, False)
    assert first.attributes["chat.says"] == "answered 503"
    assert (first.trace, first.parent) == (second.trace, second.parent)
    assert first.id != second.id


async def test_a_request_that_is_not_sampled_leaves_no_trace(
    start: Starter, people_of: Of, collector: Collector, receiver: Receiver
) -> None:
    server = await start(
        WEBHOOK_URL=receiver.url, OTEL_TRACES_SAMPLER="parentbased_always_off", **collector.settings
    )
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect("websocket")
    await desk.say(talk, "Unseen")
    assert "traceparent" not in (await posted(receiver, "Unseen")).headers
    # A caller can still request sampling.
    trace = secrets.token_hex(16)
    await alice.request(
        "POST",
        f"/conversations/{talk['id']}/messages",
        {"content": "Seen"},
        headers={"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"},
    )
    await trace_of(collector, await posted(receiver, "Seen"), 5)
    assert {span.trace for span in collector.spans} == {trace}
    assert all("trace" not in line for line in lines(server, "event"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
async def test_tracing_that_is_off_is_not_even_loaded(
    start: Starter, people_of: Of, collector: Collector, settings: dict[str, str]
) -> None:
    server = await start(**(settings and {**collector.settings, **settings}))
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect("websocket")
    await desk.say(talk, "Hello")
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "google/_upb" not in loaded, "the exporter's encoder"
    assert all("trace" not in line for line in lines(server, "event"))
    assert collector.spans == []


async def test_a_missing_collector_holds_up_nobody(start: Starter, people_of: Of) -> None:
    server = await start(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}", OTEL_BSP_SCHEDULE_DELAY="50"
    )
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect("websocket")
    for n in range(20):
        await desk.say(talk, f"{n}")
    await asyncio.sleep(0.5)
    await desk.close()
    began = time.monotonic()
    assert await server.stop() == 0
    assert time.monotonic() - began < 5 * slowness()


async def test_names_and_attributes_are_those_of_the_standard_variables(
    start: Starter, people_of: Of, collector: Collector
) -> None:
    server = await start(
        OTEL_SERVICE_NAME="our-chat",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=staging,service.instance.id=a",
        **collector.settings,
    )
    alice, bob = people_of(server)("alice", "bob")
    await alice.direct(bob)
    await collector.until(lambda: collector.spans)
    resource = collector.resources[0]
    assert resource["service.name"] == "our-chat"
    assert resource["service.instance.id"] == "a"
    assert resource["deployment.environment.name"] == "staging"
    assert resource["service.version"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_SDK_DISABLED", "perhaps"),
    ],
)
def test_an_unsupported_value_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, value)
    with pytest.raises(BadSettings, match=rf"\b{key}\b"):
        Settings.from_environment()


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.exporter"])
def test_traces_without_opentelemetry_are_refused_with_advice(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    class Missing:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == missing:
                raise ModuleNotFoundError(name)

    for name in [module for module in sys.modules if module.startswith(missing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("sys.meta_path", [Missing(), *sys.meta_path])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    with pytest.raises(
        BadSettings, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set.*chatserver\[tracing\]"
    ):
        Settings.from_environment()
