"""Connects clients, dispatches their events, and disconnects them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from ...chat.chat import Chat
from ...clock import iso, now
from ...errors import ChatError, RateLimited, Unauthenticated, ValidationFailed
from ...observability.metrics import Metrics
from ...realtime import Connection, Refused
from ...realtime.engine.session import Session
from ...realtime.rooms.rooms import Arrival, Rooms
from ..auth import Tokens
from ..error_mapping import HANDLER_S, refusal
from ..rate_limits import Limits, Rate
from ..requests.parse import parse
from . import decoding
from .client_events import ClientEvent, client_events
from .event_queue import EventQueue
from .responder import Call, Responder
from .token_expiry import Expiry

if TYPE_CHECKING:
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)

UNKNOWN = Rate(10)
CONNECT = Rate(20)
"""Higher than the number of devices with which a user reconnects after a node restarts."""
KNOWN = 4096
KNOWN_BYTES = 256


class PendingConnection:
    """The state of a client that was accepted but not notified yet."""

    __slots__ = ("arrival", "expires_at", "rooms")

    def __init__(self, arrival: Arrival, expires_at: float, rooms: list[str]) -> None:
        self.arrival = arrival
        self.expires_at = expires_at
        self.rooms = rooms


class Door:
    """Handles the connections and events of the Socket.IO server (implements realtime.Dispatcher)."""

    def __init__(
        self,
        chat: Chat,
        rooms: Rooms,
        tokens: Tokens,
        limits: Limits,
        metrics: Metrics,
        tracing: Tracing | None = None,
    ) -> None:
        self._chat = chat
        self._rooms = rooms
        self._tokens = tokens
        self._limits = limits
        self._metrics = metrics
        self._expiry = Expiry(rooms)
        self._responder = Responder(chat, metrics, tracing)
        self._known: dict[bytes, tuple[ClientEvent, Any]] = {}
        """Parsed recurring events, by their text: each client sends its typing events again and again."""
        self.events: Mapping[str, ClientEvent] = client_events(rooms, tokens, self._expiry)
        metrics.expect("socket", ["connect", *self.events])

    # --- connecting and disconnecting -----------------------------------------------------------

    async def connecting(
        self, session: Session, sid: str, environ: dict[str, Any], auth: Any
    ) -> Connection:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(HANDLER_S):
                connection = await self._let_in(session, sid, environ, auth)
        except Exception as error:  # the door always answers
            refused = refusal(error, sid=sid)
            self._metrics.observe("socket", "connect", refused.code, time.perf_counter() - started)
            log.info("refused", sid=sid, code=refused.code)
            raise Refused(refused.message, refused.wire()) from None
        self._responder.note("connect", "OK", started, connection)
        return connection

    async def _let_in(
        self, session: Session, sid: str, environ: dict[str, Any], auth: Any
    ) -> Connection:
        identity = await self._tokens.verify(_token(environ, auth))
        self._limits.spend(identity.user_id, "connect", CONNECT)
        self._limits.one_more(self._rooms.sockets_of(identity.user_id))
        arrival = self._rooms.arriving(identity.user_id)
        try:
            await self._rooms.reachable(identity.user_id)
            await self._chat.users.admit(identity.user_id, identity.name)
            rooms = await self._chat.members.arrive(identity.user_id)
            await self._rooms.prepare(rooms)
            if not arrival.complete:
                # After `prepare` no change is missed, but a change before that may have been. So read
                # the user and the rooms again.
                await self._chat.users.admit(identity.user_id, identity.name)
                still = set(await self._chat.members.arrive(identity.user_id))
                rooms = [room for room in rooms if room in still]
        except BaseException:  # timed out or refused: the arrival is over
            self._rooms.abort_arrival(identity.user_id, arrival)
            raise
        connection = Connection(session, sid, identity.user_id)
        connection.of = PendingConnection(arrival, identity.expires_at, rooms)
        return connection

    def connected(self, connection: Connection) -> None:
        pending = connection.of
        if not isinstance(pending, PendingConnection):
            return
        if pending.arrival.revoked is not None:
            self._rooms.dismiss(connection, pending.arrival.revoked)
            return
        connection.of = EventQueue(self._responder, connection)
        self._rooms.enter(connection, pending.rooms, pending.arrival)
        self._expiry.set(connection, pending.expires_at)
        self._chat.presence.connected(connection.user_id)
        connection.emit(
            "connected",
            {
                "userId": connection.user_id,
                "socketId": connection.sid,
                "rooms": sorted(connection.rooms),
                "timestamp": iso(now()),
            },
        )

    def disconnected(self, connection: Connection) -> None:
        state = connection.of
        if isinstance(state, PendingConnection):
            self._rooms.abort_arrival(connection.user_id, state.arrival)
            return
        state.end()
        self._expiry.cancel(connection)
        self._chat.activity.gone(connection)
        self._rooms.leave(connection)
        self._chat.presence.disconnected(connection.user_id)
        log.info("disconnected", sid=connection.sid, user=connection.user_id)

    # --- events ---------------------------------------------------------------------------------

    def event(self, connection: Connection, text: bytes, packet_id: int | None) -> None:
        started = time.perf_counter()
        row: ClientEvent | None
        if (known := self._known.get(text)) is not None:
            row, request = known
            name, event = row.name, []
        else:
            try:
                event = decoding.read(text)
            except ChatError as error:
                self._refuse_unread(connection, text, error, packet_id, started)
                return
            name = event[0]
            row, request = self.events.get(name), None
        try:
            if row is None:
                self._limits.spend(connection.user_id, "unknown", UNKNOWN)
                raise ValidationFailed(details={"event": ["There is no event with this name."]})
            self._limits.spend(connection.user_id, name, row.limit)
            if request is None:
                request = self._parse(row, event, text)
        except ChatError as error:
            self._responder.refuse(
                connection,
                row.name if row else "unknown",
                error,
                packet_id,
                started,
                given_name=name,
            )
            return
        # Otherwise the client is not notified yet that it is connected, or was just disconnected.
        if isinstance(connection.of, EventQueue):
            call = Call(row, request, packet_id, started)
            connection.of.put(self._responder.arrived(connection, call))

    def _parse(self, row: ClientEvent, event: list[Any], text: bytes) -> Any:
        if len(event) > 2:
            raise ValidationFailed("An event may have only one payload.")
        request = parse(row.request, event[1] if len(event) == 2 else {})
        if row.request.recurs and len(text) <= KNOWN_BYTES:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[text] = row, request
        return request

    def binary(self, connection: Connection, text: bytes, packet_id: int | None) -> None:
        error = ValidationFailed("Binary data is not supported.")
        self._refuse_unread(connection, text, error, packet_id, time.perf_counter())

    def _refuse_unread(
        self,
        connection: Connection,
        text: bytes,
        error: ChatError,
        packet_id: int | None,
        started: float,
    ) -> None:
        try:
            self._limits.spend(connection.user_id, "unknown", UNKNOWN)
        except RateLimited as limited:
            error = limited
        given_name = decoding.name_of(text)
        self._responder.refuse(
            connection, "unknown", error, packet_id, started, given_name=given_name
        )

    async def close(self) -> None:
        """Waits for the events that are being handled."""
        await self._responder.close()


def _token(environ: dict[str, Any], auth: Any) -> str:
    """Returns the token in `auth: {token}` or the Authorization header. The query string is not read, because
    proxies log it."""
    if isinstance(auth, dict) and isinstance(auth.get("token"), str):
        return str(auth["token"])
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated()
    return str(token.strip())
