"""The engine.io server: engineio's AsyncServer with our own sessions, heartbeat and refusals.

Overrides of engineio 4.15.1's AsyncServer: attach, handle_request (which first refuses invalid requests),
_handle_connect (which creates our Session), start_background_task (the original looks up the event loop, a
system call), _ok, _bad_request and _make_response (which make the response).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import engineio
from aiohttp import WSCloseCode, web
from engineio import packet as engine_packet
from engineio.exceptions import ContentTooLongError

from ..memory import Memory
from . import bad_requests
from .client_addresses import Addresses, Network
from .end_reasons import DRAIN, TOO_SLOW
from .heartbeat import Heartbeat
from .packet import Malformed
from .session import Session
from .websocket import Turn

UPGRADE_S = 10.0
UNSENT_LIMIT = 1024 * 1024
EMPTY_S = 0.05
"""The time between two looks whether anybody is still connected."""
LEAVE_S = 10.0
"""How long disconnect handlers may take when the application shuts down."""


class EngineServer(engineio.AsyncServer):
    """engineio.AsyncServer for aiohttp. Additional options:

    `upgrade_timeout`: seconds that a client has to upgrade to WebSocket;
    `unsent_limit`: unsent bytes past which a session is closed, so that its client reconnects;
    `max_payload`: the payload limit in bytes that clients are told, by default `max_http_buffer_size`;
    `sessions_per_address`: the most sessions that a client address may have at a time, or 0 for no limit;
    `trusted_proxies`: the networks of proxies whose X-Forwarded-For is trusted for the client's address;
    `node`: session ids start with this and a dot, so that a load balancer can send all requests of a session
    to its node;
    `delivered`: called when all packets of a turn of the event loop are written, with the seconds since the first
    of them was sent and the number of sessions.
    """

    sockets: dict[str, Session]

    def __init__(
        self,
        *args: Any,
        upgrade_timeout: float = UPGRADE_S,
        unsent_limit: int = UNSENT_LIMIT,
        max_payload: int | None = None,
        sessions_per_address: int = 0,
        trusted_proxies: Iterable[Network] = (),
        node: str = "",
        delivered: Callable[[float, int], None] = lambda seconds, sessions: None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.upgrade_timeout = upgrade_timeout
        self.unsent_limit = unsent_limit
        self.max_payload = max_payload or self.max_http_buffer_size
        self.addresses = Addresses(sessions_per_address, trusted_proxies)
        self._before_id = f"{node}." if node else ""
        self.heartbeat = Heartbeat(self.ping_interval, self.ping_timeout)
        self.draining = False
        self.deliver: Callable[[Session, bytes], None] = self._hold_text
        """Gets each text message as it is parsed. It must not wait, and may raise Malformed. A fast path puts
        its own function here."""
        self.deliver_binary: Callable[[Session, bytes], None] = self._hold_bytes
        """Gets each binary message, under the same conditions."""
        self._last_words: dict[str, list[engine_packet.Packet]] = {}
        self.turn = Turn(delivered)
        self.closings: dict[str, int] = {TOO_SLOW: 0}
        """The number of ended sessions by reason. The reason that operators watch for starts at 0."""
        self.spared = 0
        """The number of volatile packets that were dropped for sessions that read slowly."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._endings: set[asyncio.Task[None]] = set()
        """The tasks that close sessions."""
        # Stored, because on Python 3.11 each get_running_loop() is a system call.
        self._loop: asyncio.AbstractEventLoop

    def attach(self, app: web.Application, engineio_path: str = "engine.io") -> None:
        async def begin(_: web.Application) -> None:
            self.draining = False

        async def leave(_: web.Application) -> None:
            await self.drain(0)
            # aiohttp waits for its handlers, but does not know our WebSockets.
            if self._endings:
                await asyncio.wait(self._endings, timeout=LEAVE_S)

        path = f"/{engineio_path.strip('/')}"
        # Clients with `addTrailingSlash: false` leave out the slash. All methods: the protocol defines the
        # response to a wrong one.
        for each in (path, f"{path}/"):
            app.router.add_route("*", each, self.handle_request)
        app.on_shutdown.append(leave)
        app.on_startup.append(begin)

    def _hold_text(self, session: Session, text: bytes) -> None:
        try:
            session.hold(text.decode())
        except UnicodeDecodeError:
            raise Malformed() from None

    def _hold_bytes(self, session: Session, data: bytes) -> None:
        session.hold(bytes(data))

    def watch(self, memory: Memory) -> None:
        memory("sessions", lambda: len(self.sockets), None)
        memory("last words of sessions", lambda: len(self._last_words), None)
        memory("tasks of sessions", lambda: len(self._tasks) + len(self._endings), None)
        self.addresses.watch(memory)

    # --- output -------------------------------------------------------------------------------------

    def drop(self, session: Session, reason: str, *, abort: bool = True) -> None:
        """End a session without waiting."""
        self._begin(session.close(wait=False, abort=abort, reason=reason), self._endings)

    def ended(self, reason: str) -> None:
        """Count an ended session. `reason` is one of ours, never a client's, because each has a counter."""
        self.closings[reason] = self.closings.get(reason, 0) + 1

    def by_transport(self) -> dict[str, int]:
        """Returns the number of sessions on each transport."""
        upgraded = sum(1 for session in self.sockets.values() if session.upgraded)
        return {"websocket": upgraded, "polling": len(self.sockets) - upgraded}

    def keep_last_words(self, sid: str, packets: list[engine_packet.Packet]) -> None:
        """Keep packets for one more poll of a session that was closed between two polls."""
        self._last_words[sid] = packets
        self._loop.call_later(self.ping_timeout, self._last_words.pop, sid, None)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._begin(work, self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = self._loop.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(self, "_loop"):
            return self._loop.create_task(target(*args, **kwargs))
        return super().start_background_task(target, *args, **kwargs)

    async def drain(self, seconds: float) -> None:
        """Refuse new clients, and close all sessions, spread over `seconds`, so that clients reconnect elsewhere.

        It ends early when nobody is connected any more. The close code is 1012 (service restart), after which the JS client reconnects by itself. After a
        Socket.IO disconnect it would not.
        """
        self.draining = True
        sessions = list(self.sockets.values())
        for at, session in enumerate(sessions):
            session.end_reason = DRAIN
            if session.websocket is not None and session.upgraded:
                session.websocket.end(WSCloseCode.SERVICE_RESTART, "the server restarts")
            else:
                await session.close(wait=False)
            if seconds and at % 10 == 9:
                await self.empty(seconds * 10 / len(sessions))

    async def empty(self, seconds: float) -> None:
        """Return when nobody is connected, but after `seconds` at the latest."""
        end = time.monotonic() + seconds
        while self.sockets and (left := end - time.monotonic()) > 0:  # noqa: ASYNC110  no event tells
            await asyncio.sleep(min(left, EMPTY_S))

    # --- requests -----------------------------------------------------------------------------------

    async def handle_request(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return await super().handle_request(request)
        code = bad_requests.refusal(self, request)
        if code is None and request.method == "GET":
            session = self.sockets.get(request.query.get("sid", ""))
            response = await super().handle_request(request)
            if session is not None and request.query["transport"] == "polling":
                await session.answer(request, response)
            return response
        if code == bad_requests.SECOND_WEBSOCKET:
            return await bad_requests.turned_away(request)
        environ = self._async["translate_request"](request)
        if code == bad_requests.UNKNOWN_SESSION and request.method == "GET":
            last = self._last_words.pop(request.query["sid"], None)
            answer = self._ok(last) if last else bad_requests.refused(code)
        elif code is not None:
            answer = bad_requests.refused(code, bad_requests.what_to_do(self, code))
        else:
            answer = await self._post(environ)
        return await self._make_response(answer, environ)

    async def _post(self, environ: dict[str, Any]) -> Any:
        """Replaces engineio's code, which responds with 200 to a body that it cannot read."""
        origin = environ.get("HTTP_ORIGIN")
        allowed = self._cors_allowed_origins(environ)
        checked = self.cors_allowed_origins != []
        if checked and origin and allowed is not None and origin not in allowed:
            return self._bad_request(f"{origin} is not an accepted origin.")
        session = self.sockets[environ["aiohttp.request"].query["sid"]]
        try:
            await session.handle_post_request(environ)
        except Malformed:
            return self._bad_request()
        except ContentTooLongError:
            return bad_requests.refused(bad_requests.BAD_REQUEST, status="413 PAYLOAD TOO LARGE")
        return self._ok()

    async def _handle_connect(
        self, environ: dict[str, Any], transport: str, jsonp_index: int | None = None
    ) -> Any:
        if self.draining:
            # Refused over HTTP: after a refusal over Socket.IO the client would not try again.
            return {"status": "503 SERVICE UNAVAILABLE", "headers": [], "response": b"draining"}
        # engineio's aiohttp driver sets the same address for all clients.
        address = environ["REMOTE_ADDR"] = self.addresses.of(environ["aiohttp.request"])
        if not self.addresses.enter(address):
            return bad_requests.refused(
                bad_requests.FORBIDDEN, "Too many connections", status="429 TOO MANY REQUESTS"
            )
        self._run_in(asyncio.get_running_loop())
        sid = self._before_id + self.generate_id()
        session = self.sockets[sid] = Session(self, sid, address)
        await session.send(
            engine_packet.Packet(
                engine_packet.OPEN,
                {
                    "sid": sid,
                    "upgrades": self._upgrades(sid, transport),
                    "pingInterval": round(
                        (self.ping_interval + self.ping_interval_grace_period) * 1000
                    ),
                    "pingTimeout": round(self.ping_timeout * 1000),
                    "maxPayload": self.max_payload,
                },
            )
        )
        accepted = await self._trigger_event("connect", sid, environ, run_async=False)
        if accepted is not None and accepted is not True:
            session.closing = session.closed = True
            self.addresses.leave(address)
            del self.sockets[sid]
            return self._unauthorized(accepted or None)
        session.schedule_ping()
        if transport == "websocket":
            return await session.handle_get_request(environ)
        session.connected = True
        return self._ok(await session.poll(), self._cookies(sid), jsonp_index)

    def _run_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if getattr(self, "_loop", None) is not loop:
            self._loop = self.turn.loop = loop
            self.heartbeat.start()

    def _cookies(self, sid: str) -> list[tuple[str, str]]:
        if not self.cookie:
            return []
        cookie = self.cookie
        if not isinstance(cookie, dict):
            cookie = {"name": cookie, "path": "/", "SameSite": "Lax"}
        return [("Set-Cookie", self._generate_sid_cookie(sid, cookie))]

    def _ok(self, packets: Any = None, headers: Any = None, jsonp_index: int | None = None) -> Any:
        if packets is not None:
            return super()._ok(packets, headers, jsonp_index)
        return {
            "status": "200 OK",
            "headers": [("Content-Type", "text/plain")],
            "response": b"ok",
        }

    def _bad_request(self, message: str | None = None) -> Any:
        return bad_requests.refused(bad_requests.BAD_REQUEST, message)

    async def _make_response(self, response: dict[str, Any], environ: dict[str, Any]) -> Any:
        # A cache that kept the id of a session, or its packets, would give them to others.
        headers = [*response["headers"], ("Cache-Control", "no-store")]
        return await super()._make_response({**response, "headers": headers}, environ)
