"""Posts events to an endpoint over persistent connections."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
import traceback
from base64 import b64encode
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import aiohttp
import structlog
from multidict import istr
from yarl import URL

from ... import __version__
from ..endpoints import Endpoint
from ..event import Event
from ..signing import sign
from .error_text import error_text
from .sink import Delivery
from .ssrf_guard import AddressInfo, guarded_socket, plain_socket

if TYPE_CHECKING:
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER_S = 3600.0
REST_BYTES = 1024
REST_S = 1.0
"""A response body is read up to this size and for this long, so that the connection can be used again."""
IDLE_S = 4.0
"""An idle connection is closed after this long. Common servers wait 5 s or more, and a request is lost only
when the server closes first."""
STALE_TRIES = 3
"""Tries per attempt. If the receiver has just closed a kept connection, the request is sent on another."""
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
TRACEPARENT = istr("traceparent")
EVENT, ID, SIGNATURE = istr("X-Webhook-Event"), istr("X-Webhook-Id"), istr("X-Webhook-Signature")


class _Attempt:
    """One request. `fresh`: it opened a connection of its own, rather than using an open one."""

    __slots__ = ("fresh",)

    def __init__(self) -> None:
        self.fresh = False


_attempt: ContextVar[_Attempt] = ContextVar("attempt")


class Webhook:
    """The sink of one endpoint. Create it inside a running event loop.

    `timeout_s`: the limit for one attempt, until the response headers have arrived. It includes the wait
    for a free connection. `concurrency`: the maximum number of connections.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float,
        concurrency: int,
        allow_link_local: bool,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._name = endpoint.name
        self._secrets = endpoint.secrets
        self._timeout_s = timeout_s
        self._guard = plain_socket if allow_link_local else guarded_socket
        self._url, authorization = _without_password(endpoint.url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=concurrency,
                keepalive_timeout=IDLE_S,
                resolver=aiohttp.ThreadedResolver(),
                socket_factory=self._new_socket,
            ),
            headers={
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"chatserver/{__version__}",
                **authorization,
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=REST_BYTES,
            max_line_size=4096,
            max_field_size=4096,
            max_headers=64,
        )

    async def deliver(self, event: Event) -> Delivery:
        """Make one attempt. Raises only CancelledError."""
        if self._tracing is None or not event.traceparent:
            return await self._attempt(event)
        about = {"chat.endpoint": self._name, "chat.event.id": event.id}
        span = self._tracing.leaves(f"webhook {event.type}", event.traceparent, about)
        if span is None:
            return await self._attempt(event)
        delivery = await self._attempt(replace(event, traceparent=span.traceparent))
        code = "OK" if delivery.outcome == "delivered" else delivery.outcome
        span.end(code, {"chat.says": delivery.detail})
        return delivery

    async def _attempt(self, event: Event) -> Delivery:
        try:
            if self._url is None:
                return Delivery("gone", "its URL is not valid")
            async with asyncio.timeout(self._timeout_s):
                response = await self._post(self._url, event)
            if response.connection is not None:
                await self._read_rest(response)
            return _delivery(response)
        except TimeoutError:
            return Delivery("failed", f"did not answer within {self._timeout_s:g} s")
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return Delivery("gone", "its URL is not valid")
        except (aiohttp.ClientError, OSError) as error:
            return Delivery("failed", error_text(error))
        except Exception as error:  # one event must not stop the delivery of the others
            # The text of the error may contain the URL.
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "an event cannot be posted",
                endpoint=self._name,
                event_id=event.id,
                error=type(error).__name__,
                where=f"{os.path.basename(place.filename)}:{place.lineno}",
            )
            return Delivery("failed", f"request failed: {type(error).__name__}")

    async def close(self) -> None:
        await self._session.close()

    async def _post(self, url: URL, event: Event) -> aiohttp.ClientResponse:
        body = event.body()
        for left in reversed(range(STALE_TRIES)):
            attempt = _Attempt()
            _attempt.set(attempt)
            headers = {
                EVENT: event.type,
                ID: event.id,
                SIGNATURE: sign(body, self._secrets, int(time.time())),
            }
            if event.traceparent:
                headers[TRACEPARENT] = event.traceparent
            try:
                return await self._session.post(
                    url, data=body, headers=headers, allow_redirects=False
                )
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if attempt.fresh or not left:
                    raise
        raise AssertionError

    async def _read_rest(self, response: aiohttp.ClientResponse) -> None:
        """Read the body if it is short and arrives soon; otherwise close the connection.

        The status already decided the outcome. Nothing here changes it.
        """
        left = REST_BYTES
        try:
            async with asyncio.timeout(REST_S):
                while left >= 0 and not response.content.at_eof():
                    left -= len(await response.content.read(left + 1))
        except (TimeoutError, aiohttp.ClientError):
            pass  # the connection is closed below
        finally:
            response.close()

    def _new_socket(self, info: AddressInfo) -> socket.socket:
        made = self._guard(info)
        _attempt.get().fresh = True
        return made


def _without_password(text: str) -> tuple[URL | None, dict[str, str]]:
    """The URL to post to (None if it is not valid), and an Authorization header for its user and password."""
    try:
        url = URL(text)
        if url.scheme not in ("http", "https") or not url.host or not url.port:
            return None, {}
    except ValueError:
        return None, {}
    if url.user is None and url.password is None:
        return url, {}
    pair = f"{url.user or ''}:{url.password or ''}".encode()
    return url.with_user(None), {"Authorization": f"Basic {b64encode(pair).decode()}"}


def _delivery(response: aiohttp.ClientResponse) -> Delivery:
    status = response.status
    if 200 <= status < 300:
        return _DELIVERED
    if status == 410:
        return Delivery("gone", "answered 410: it does not want this event")
    if status in REDIRECTS:
        return Delivery("failed", f"answered {status}: redirects are not followed")
    asked = response.headers.get("Retry-After", "") if status in (429, 503) else ""
    return Delivery("failed", f"answered {status}", _seconds(asked.strip()))


_DELIVERED: Final = Delivery("delivered")


def _seconds(retry_after: str) -> float:
    """The seconds of a Retry-After header (a number or a date); 0 if it is neither."""
    if re.fullmatch(r"[0-9]+", retry_after):
        return min(float(retry_after[:10]), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(retry_after[:64])
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        seconds = (at - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0
    return min(max(seconds, 0), MAX_RETRY_AFTER_S)
