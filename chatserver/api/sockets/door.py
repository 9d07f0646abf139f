"""Accepts clients, and follows their connections from the CONNECT to the end."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from ...chat.chat import Chat
from ...chat.membership import RoomsOf
from ...clock import iso, now
from ...errors import Unauthenticated
from ...observability.metrics import Metrics
from ...realtime import Refused
from ...realtime.engine.session import Session
from ...realtime.rooms.arrival import Arrival
from ...realtime.rooms.rooms import Rooms
from ..auth import Tokens, bearer
from ..error_mapping import refusal
from ..rate_limits import Limits, Rate
from .client_events import client_events
from .connection import ClientConnection, Services
from .token_expiry import Expiry

if TYPE_CHECKING:
    from ...observability.tracing import Tracing

log = structlog.get_logger(__name__)

CONNECT = Rate(20)
"""Higher than the number of devices with which a user reconnects after a node restarts."""
ROOMS = 1250
"""Rooms of a socket that cost another token, so that twenty devices can enter 5,000 rooms each."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The rights of a client that was accepted but not notified yet."""

    arrival: Arrival
    expires_at: float
    """In Unix seconds."""
    rooms: RoomsOf


class Door:
    """Accepts the clients of the Socket.IO server (implements realtime.Acceptor)."""

    def __init__(
        self,
        chat: Chat,
        rooms: Rooms,
        tokens: Tokens,
        limits: Limits,
        metrics: Metrics,
        tracing: Tracing | None = None,
        *,
        timeout_s: float,
        max_packet: int,
    ) -> None:
        self._chat = chat
        self._rooms = rooms
        self._tokens = tokens
        self._limits = limits
        self._metrics = metrics
        self._expiry = Expiry(rooms)
        events = client_events(rooms, tokens, self._expiry, limits)
        self._services = Services(chat, events, limits, metrics, tracing, timeout_s, max_packet)
        self._admitted: dict[ClientConnection, Admission] = {}
        metrics.expect("socket", ["connect", *events])
        metrics.memory("clients that connect", lambda: len(self._admitted), None)
        self._expiry.watch(metrics)
        self._services.watch()

    async def connecting(
        self, session: Session, sid: str, environ: dict[str, Any], auth: Any
    ) -> ClientConnection:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._services.timeout_s):
                user_id, admission = await self._let_in(environ, auth)
        except Exception as error:  # the door always answers
            refused = refusal(error, sid=sid)
            self._metrics.observe("socket", "connect", refused.code, time.perf_counter() - started)
            log.info("refused", sid=sid, code=refused.code, **refused.reason)
            raise Refused(refused.message, refused.wire()) from None
        connection = ClientConnection(self._services, session, sid, user_id)
        self._admitted[connection] = admission
        connection.note("connect", "OK", started)
        return connection

    async def _let_in(self, environ: dict[str, Any], auth: Any) -> tuple[str, Admission]:
        identity = await self._tokens.verify(_token(environ, auth))
        user_id = identity.user_id
        self._limits.spend(user_id, "connect", CONNECT)
        self._limits.one_more(self._rooms.sockets_of(user_id))
        arrival = self._rooms.arriving(user_id)
        try:
            await self._rooms.reachable(user_id)
            await self._chat.users.admit(user_id, identity.name)
            rooms = await self._chat.members.arrive(user_id)
            await self._rooms.prepare(rooms.ids)
            if not arrival.complete:
                # After `prepare` no change is missed, but a change before that may have been. So read
                # the user and the rooms again.
                await self._chat.users.admit(user_id, identity.name)
                rooms = await self._chat.members.remaining(user_id, rooms)
        except BaseException:  # timed out or refused: the arrival is over
            self._rooms.abort_arrival(user_id, arrival)
            raise
        self._limits.spend(user_id, "connect", CONNECT, len(rooms.ids) // ROOMS, needs=-math.inf)
        return user_id, Admission(arrival, identity.expires_at, rooms)

    def connected(self, connection: ClientConnection) -> None:
        admission = self._admitted[connection]
        if admission.arrival.revoked is not None:
            self._rooms.dismiss(connection, admission.arrival.revoked)
            return
        del self._admitted[connection]
        connection.start()
        rooms = admission.rooms
        self._rooms.enter(connection, rooms.ids, admission.arrival, partly=rooms.truncated)
        self._expiry.set(connection, admission.expires_at)
        self._chat.presence.connected(connection.user_id)
        connection.emit(
            "connected",
            {
                "userId": connection.user_id,
                "socketId": connection.sid,
                "rooms": sorted(connection.rooms),
                **({"roomsTruncated": True} if rooms.truncated else {}),
                "timestamp": iso(now()),
            },
        )

    def disconnected(self, connection: ClientConnection) -> None:
        if (admission := self._admitted.pop(connection, None)) is not None:
            self._rooms.abort_arrival(connection.user_id, admission.arrival)
            return
        connection.end()
        self._expiry.cancel(connection)
        self._chat.activity.gone(connection)
        self._rooms.leave(connection)
        self._chat.presence.disconnected(connection.user_id)
        log.info("disconnected", sid=connection.sid, user=connection.user_id)

    async def close(self) -> None:
        """Waits for the events that are being handled."""
        while tasks := self._services.tasks:
            await asyncio.wait(tasks)


def _token(environ: dict[str, Any], auth: Any) -> str:
    """Returns the token in `auth: {token}` or the Authorization header. The query string is not read, because
    proxies log it."""
    given = auth.get("token") if isinstance(auth, dict) else None
    if isinstance(given, str):
        return given
    token = bearer(environ.get("HTTP_AUTHORIZATION", ""))
    if not token and given is not None:
        raise Unauthenticated(reason="malformed")
    return token
