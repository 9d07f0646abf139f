"""A receiver of webhooks, as in the Master Service: a real HTTP server that answers as a test tells it to.

async with Receiver() as receiver:
    receiver.answer = lambda post: 503 if post.attempt == 1 else 200
    …
    await receiver.until(lambda: len(receiver.events) == 3)
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from . import documented
from .patience import PATIENCE_S
from .servers import WEBHOOK_SECRET

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Post:
    """A received request. `at`: by the monotonic clock. `connection`: the number of its connection, from 1.
    `attempt`: the number of this attempt at the event, from 1."""

    at: float
    path: str
    headers: Mapping[str, str]
    body: bytes
    event: Event
    connection: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Misbehaviour = Callable[[web.BaseRequest], Awaitable[None]]
"""Writes anything to the request's transport. The connection is closed afterwards."""
Reply = int | Answer | Misbehaviour


class Receiver:
    """Receives webhooks. Every request must be signed with all `secrets`, newest first, or the test fails."""

    def __init__(self, *secrets: str, port: int = 0, keep_alive_s: float = 75) -> None:
        self.secrets = secrets or (WEBHOOK_SECRET,)
        self.port = port
        self.answer: Callable[[Post], Reply] = lambda post: 200
        self.posts: list[Post] = []
        """All requests, in the order of arrival."""
        self.events: list[Event] = []
        """The events that were answered 2xx, each once, without the repeats, which a receiver skips."""
        self.by_key: defaultdict[str, list[Event]] = defaultdict(list)
        """The same events by ordering key, in order."""
        self.repeats = 0
        """The number of events that arrived again after they had been answered 2xx."""
        self.wrong: list[str] = []
        self._attempts: Counter[str] = Counter()
        self._taken: set[str] = set()
        self._connections: dict[Any, int] = {}
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()
        self._keep_alive_s = keep_alive_s
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks"

    @property
    def connections(self) -> int:
        """The number of connections that were opened and used."""
        return len(self._connections)

    def attempts(self, event_id: str) -> list[Post]:
        return [post for post in self.posts if post.event["id"] == event_id]

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        assert not self.wrong, self.wrong[:5]

    async def open(self) -> None:
        """Listens; after a close(), on the same port again."""
        server = web.Server(
            self._take,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=self._keep_alive_s,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stops listening: new connections are refused, and open ones are closed."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def until(self, done: Callable[[], bool], *, within: float = PATIENCE_S) -> None:
        """Waits until `done()` holds. It is checked after each received request."""
        try:
            async with asyncio.timeout(within):
                while not done():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            came = Counter(post.event["type"] for post in self.posts)
            raise AssertionError(
                f"not within {within} s; {len(self.events)} events taken, requests: {dict(came)}"
            ) from None

    async def _take(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            post = self._post(request, await request.read())
        except (AssertionError, KeyError, ValueError) as error:
            self.wrong.append(f"{type(error).__name__}: {error}; {dict(request.headers)}")
            self._news.set()
            return web.Response(status=500)
        self.posts.append(post)
        reply = self.answer(post)
        answer = Answer(reply) if isinstance(reply, int) else reply
        if isinstance(answer, Answer) and 200 <= answer.status < 300:
            self._keep(post.event)
        self._news.set()
        if isinstance(answer, Answer):
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        await answer(request)
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    def _post(self, request: web.BaseRequest, body: bytes) -> Post:
        at = time.monotonic()
        assert request.method == "POST", request.method
        assert request.headers["Content-Type"] == "application/json"
        event = json.loads(body)
        assert list(event) == ["id", "type", "timestamp", "data"], list(event)
        documented.posted(event)
        assert request.headers["X-Webhook-Id"] == event["id"]
        assert request.headers["X-Webhook-Event"] == event["type"]
        self._check(request.headers["X-Webhook-Signature"], body)
        self._attempts[event["id"]] += 1
        number = self._connections.get(request.protocol)
        if number is None:
            number = self._connections[request.protocol] = next(self._numbers)
        attempt = self._attempts[event["id"]]
        return Post(at, request.path_qs, request.headers, body, event, number, attempt)

    def _check(self, header: str, body: bytes) -> None:
        signed_at, *signatures = header.split(",")
        seconds = signed_at.removeprefix("t=")
        assert abs(int(seconds) - time.time()) < 10, header
        expected = []
        for secret in self.secrets:
            mac = hmac.new(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256)
            expected.append("v1=" + mac.hexdigest())
        assert signatures == expected, "the signature is not what it should be"

    def _keep(self, event: Event) -> None:
        if event["id"] in self._taken:
            self.repeats += 1
            return
        self._taken.add(event["id"])
        self.events.append(event)
        self.by_key[key_of(event)].append(event)


def key_of(event: Event) -> str:
    """Returns the ordering key of an event: the conversation, or the user for a presence event."""
    data: dict[str, str] = event["data"]
    if event["type"].startswith("user."):
        return data["userId"]
    return data["id"] if event["type"] == "conversation.created" else data["conversationId"]


# --- answers ------------------------------------------------------------------------------------


def redirect_to(url: str, status: int = 307) -> Answer:
    return Answer(status, {"Location": url})


def too_many(retry_after: str) -> Answer:
    return Answer(429, {"Retry-After": retry_after})


async def stall(request: web.BaseRequest) -> None:
    """Sends nothing until the other side closes the connection."""
    await asyncio.Event().wait()


async def hang_up(request: web.BaseRequest) -> None:
    """Closes the connection immediately."""


def raw(text: bytes, *, stay: bool = False) -> Misbehaviour:
    """Writes these bytes as they are, then closes the connection, or with `stay` keeps it open and silent."""

    async def write(request: web.BaseRequest) -> None:
        assert request.transport is not None
        request.transport.write(text)
        if stay:
            await stall(request)

    return write


def drip(first: bytes, again: bytes, *, every_s: float) -> Misbehaviour:
    """Sends one piece, and then another one again and again."""

    async def write(request: web.BaseRequest) -> None:
        assert request.transport is not None
        request.transport.write(first)
        while True:
            await asyncio.sleep(every_s)
            request.transport.write(again)

    return write


class Flood:
    """Sends a body of 100 MB as fast as it is read. `sent`: the number of bytes sent."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.sent = 0

    async def __call__(self, request: web.BaseRequest) -> None:
        response = web.StreamResponse(status=self.status)
        response.content_length = 100 * 2**20
        await response.prepare(request)
        with suppress(ConnectionError):
            while self.sent < 100 * 2**20:
                await response.write(b"x" * 2**16)
                self.sent += 2**16
