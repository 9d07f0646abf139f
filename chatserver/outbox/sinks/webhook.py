"""The sink of `http://` and `https://`: posts events to an endpoint over persistent connections."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from multidict import istr
from yarl import URL

from ... import __version__
from ..endpoints import BadEndpoint, Endpoint, SinkOptions, shown
from ..event import Event
from ..signing import sign
from .error_text import error_text
from .sink import Delivery, Sink, Unreachable
from .ssrf_guard import AddressInfo, guarded_socket, plain_socket, refusal, refusal_of_host

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


class Webhook(Sink):
    """Posts one event per request.

    `timeout_s` is the limit until the response headers have arrived. It includes the wait for a free
    connection. `concurrency` is the maximum number of connections.
    """

    kind = "webhook"
    needs_secret = True
    limit_s = None  # `post` has its own

    def __init__(self, endpoint: Endpoint) -> None:
        options = endpoint.options
        self.concurrency = options.concurrency
        self._endpoint = endpoint
        self._timeout_s = options.timeout_s
        self._guard = plain_socket if options.allow_link_local else guarded_socket
        self._url, self._authorization = _without_password(endpoint.url)
        self._session: aiohttp.ClientSession | None = None

    @staticmethod
    def check(url: str, options: SinkOptions) -> None:
        try:
            host, port = urlsplit(url).hostname or "", urlsplit(url).port
            host.encode("idna")
        except ValueError:
            raise BadEndpoint("its host or port is not valid.") from None
        if not host or port == 0:
            raise BadEndpoint("must contain a host, and its port must not be 0.")
        if not options.allow_link_local and (why := refusal_of_host(host)):
            raise BadEndpoint(
                f"its host is {why}: events are not sent there unless WEBHOOK_ALLOW_LINK_LOCAL is true."
            )

    async def deliver(self, events: Sequence[Event]) -> Sequence[Delivery]:
        (event,) = events
        return [await self.post(event)]

    async def post(self, event: Event) -> Delivery:
        """Make one attempt. Raises CancelledError, and an error if the event cannot be encoded."""
        if self._url is None:
            return Delivery("gone", "its URL is not valid")
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._request(self._url, event)
            if response.connection is not None:
                await self._read_rest(response)
            return _delivery(response)
        except TimeoutError:
            return Delivery("failed", f"did not answer within {self._timeout_s:g} s")
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            return Delivery("gone", "its URL is not valid")
        except (aiohttp.ClientError, OSError) as error:
            return Delivery("failed", error_text(error))

    async def probe(self) -> str:
        url = urlsplit(self._endpoint.url)
        tls = ssl.create_default_context() if url.scheme.lower() == "https" else None
        host, port = url.hostname or "", url.port or (443 if tls else 80)
        where = shown(self._endpoint.url)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
            refused = next((why for entry in found if (why := refusal(str(entry[4][0])))), None)
            if refused and not self._endpoint.options.allow_link_local:
                raise Unreachable(
                    f"the address of its host {host} is {refused}: nothing is sent there. "
                    "Set WEBHOOK_ALLOW_LINK_LOCAL=true if that is intended."
                )
            _, writer = await asyncio.open_connection(host, port, ssl=tls)
            writer.close()
        except socket.gaierror:
            raise Unreachable(f"{where}: the DNS has no host {host}.") from None
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason
            raise Unreachable(f"{where}: TLS failed ({reason}).") from None
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise Unreachable(
                f"{where}: no connection ({reason}): check that it is running."
            ) from None
        return f"{where} accepts connections"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self.concurrency,
                keepalive_timeout=IDLE_S,
                resolver=aiohttp.ThreadedResolver(),
                socket_factory=self._new_socket,
            ),
            headers={
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"chatserver/{__version__}",
                **self._authorization,
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
        return self._session

    async def _request(self, url: URL, event: Event) -> aiohttp.ClientResponse:
        session = self._session or self._open()
        body = event.body()
        for left in reversed(range(STALE_TRIES)):
            attempt = _Attempt()
            _attempt.set(attempt)
            headers = {
                EVENT: event.type,
                ID: event.id,
                SIGNATURE: sign(body, self._endpoint.secrets, int(time.time())),
            }
            if event.traceparent:
                headers[TRACEPARENT] = event.traceparent
            try:
                return await session.post(url, data=body, headers=headers, allow_redirects=False)
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
