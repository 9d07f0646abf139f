"""Connect, dispatch, answer, disconnect."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import structlog

from ..auth import Tokens
from ..chat.chat import Chat
from ..clock import iso, now
from ..errors import ChatError, RateLimited, Unauthenticated, ValidationFailed
from ..limits import Limits, Rate
from ..metrics import Metrics
from ..realtime import Connection, Refused
from ..realtime.rooms import Arrival, Rooms
from ..realtime.session import Session
from ..refusals import refusal
from ..requests.parse import ids_of, parse, printable
from . import incoming
from .event import Event
from .expiry import Expiry
from .table import rows

log = structlog.get_logger(__name__)

UNDER_WAY = 64
"""Sends of one socket that are not answered yet; further events wait their turn."""
BACKLOG = 128
"""Events of one socket that wait; past it the socket is not read from until half are done."""
HANDLER_S = 4.5
UNKNOWN = Rate(10)
CONNECT = Rate(20)
"""More than the devices of one user are when a node restarts."""
KNOWN = 4096
KNOWN_BYTES = 256


class _Call:
    __slots__ = ("event", "packet_id", "request", "started")

    def __init__(self, event: Event, request: Any, packet_id: int | None, started: float) -> None:
        self.event = event
        self.request = request
        self.packet_id = packet_id
        self.started = started


class _Lane:
    """The events of one socket, in order: the next begins when the one before has ended, or has
    its place in the order of its conversation."""

    __slots__ = (
        "arrival",
        "backlog",
        "busy",
        "expires_at",
        "gone",
        "paused",
        "rooms",
        "under_way",
    )

    def __init__(self, expires_at: float, arrival: Arrival, rooms: list[str]) -> None:
        self.expires_at = expires_at
        self.arrival: Arrival | None = arrival
        self.rooms = rooms
        self.backlog: deque[_Call] = deque()
        self.busy = False
        self.under_way = 0
        self.paused = False
        self.gone = False


class Door:
    """What stands behind the Socket.IO server (realtime.Dispatcher)."""

    def __init__(
        self, chat: Chat, rooms: Rooms, tokens: Tokens, limits: Limits, metrics: Metrics
    ) -> None:
        self._chat = chat
        self._rooms = rooms
        self._tokens = tokens
        self._limits = limits
        self._metrics = metrics
        self._expiry = Expiry(rooms)
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: dict[bytes, tuple[Event, Any]] = {}
        """What recurring events have been read to: typing is said a few times a minute by everybody."""
        self.events: Mapping[str, Event] = {
            row.name: row for row in rows(rooms, tokens, self._expiry)
        }

    # --- coming and going -----------------------------------------------------------------------

    async def connecting(
        self, session: Session, sid: str, environ: dict[str, Any], auth: Any
    ) -> Connection:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(HANDLER_S):
                connection = await self._let_in(session, sid, environ, auth)
        except Exception as error:
            refused = refusal(error)
            self._metrics.observe("socket", "connect", refused.code, time.perf_counter() - started)
            log.info("refused", sid=sid, code=refused.code)
            raise Refused(refused.message, refused.wire()) from None
        self._note("connect", "OK", started, connection)
        return connection

    async def _let_in(
        self, session: Session, sid: str, environ: dict[str, Any], auth: Any
    ) -> Connection:
        identity = await self._tokens.verify(_token(environ, auth))
        self._limits.spend(identity.user_id, "connect", CONNECT)
        self._limits.one_more(self._rooms.sockets_of(identity.user_id))
        arrival = self._rooms.arriving(identity.user_id)
        try:
            await self._chat.users.admit(identity.user_id, identity.name)
            rooms = await self._chat.members.arrive(identity.user_id)
        except BaseException:  # timed out or refused: nobody is arriving any more
            self._rooms.turned_back(identity.user_id, arrival)
            raise
        connection = Connection(session, sid, identity.user_id)
        connection.of = _Lane(identity.expires_at, arrival, rooms)
        return connection

    def connected(self, connection: Connection) -> None:
        lane: _Lane = connection.of
        arrival = lane.arrival
        if arrival is None:
            return
        if arrival.barred is not None:
            self._rooms.dismiss(connection, arrival.barred)
            return
        lane.arrival = None
        self._rooms.enter(connection, lane.rooms, arrival)
        lane.rooms = []
        self._expiry.set(connection, lane.expires_at)
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
        lane: _Lane = connection.of
        lane.gone = True
        lane.backlog.clear()
        if lane.arrival is not None:
            self._rooms.turned_back(connection.user_id, lane.arrival)
            return
        self._expiry.cancel(connection)
        self._chat.activity.gone(connection)
        self._rooms.leave(connection)
        self._chat.presence.disconnected(connection.user_id)
        log.info("disconnected", sid=connection.sid, user=connection.user_id)

    # --- events ---------------------------------------------------------------------------------

    def event(self, connection: Connection, text: bytes, packet_id: int | None) -> None:
        started = time.perf_counter()
        row: Event | None
        if (known := self._known.get(text)) is not None:
            row, request = known
            name, event = row.name, []
        else:
            try:
                event = incoming.read(text)
            except ChatError as error:
                self._refuse_unread(connection, text, error, packet_id, started)
                return
            name = event[0]
            row, request = self.events.get(name), None
        try:
            if row is None:
                self._limits.spend(connection.user_id, "unknown", UNKNOWN)
                raise ValidationFailed(details={"event": ["There is no such event."]})
            self._limits.spend(connection.user_id, name, row.limit)
            if request is None:
                request = self._parse(row, event, text)
        except ChatError as error:
            self._refuse(
                connection, row.name if row else "unknown", error, packet_id, started, said=name
            )
            return
        lane: _Lane = connection.of
        call = _Call(row, request, packet_id, started)
        if lane.busy or lane.backlog:
            self._wait(connection, lane, call)
        else:
            self._begin(connection, lane, call)

    def _parse(self, row: Event, event: list[Any], text: bytes) -> Any:
        if len(event) > 2:
            raise ValidationFailed("An event has one payload.")
        request = parse(row.request, event[1] if len(event) == 2 else {})
        if row.request.recurs and len(text) <= KNOWN_BYTES:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[text] = row, request
        return request

    def binary(self, connection: Connection, text: bytes, packet_id: int | None) -> None:
        error = ValidationFailed("Binary data is not taken.")
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
        said = incoming.name_of(text)
        self._refuse(connection, "unknown", error, packet_id, started, said=said)

    def _wait(self, connection: Connection, lane: _Lane, call: _Call) -> None:
        lane.backlog.append(call)
        if len(lane.backlog) >= BACKLOG and not lane.paused:
            lane.paused = True
            connection.pause(True)

    def _begin(self, connection: Connection, lane: _Lane, call: _Call) -> None:
        if call.event.takes_turn:
            if lane.under_way:
                # After what came before it: a sync right after a send has the message in it.
                self._wait(connection, lane, call)
                return
            self._take_turn(
                connection, lane, call, call.event.handler(self._chat, connection, call.request)
            )
            return
        if lane.under_way >= UNDER_WAY:
            self._wait(connection, lane, call)
            return
        try:
            result = call.event.handler(self._chat, connection, call.request)
        except Exception as error:
            self._fail(connection, call, error)
            return
        if isinstance(result, asyncio.Future):
            lane.under_way += 1
            result.add_done_callback(lambda done: self._landed(connection, lane, call, done))
        elif inspect.iscoroutine(result):
            self._take_turn(connection, lane, call, result)
        else:
            self._answer(connection, call, result)

    def _landed(
        self, connection: Connection, lane: _Lane, call: _Call, done: asyncio.Future[Any]
    ) -> None:
        lane.under_way -= 1
        if (error := done.exception()) is not None:
            self._fail(connection, call, error)
        else:
            self._answer(connection, call, done.result().message.json)
        if lane.backlog:
            self._go_on(connection, lane)

    def _take_turn(self, connection: Connection, lane: _Lane, call: _Call, work: Any) -> None:
        lane.busy = True
        task = asyncio.get_running_loop().create_task(self._run(connection, lane, call, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: Connection, lane: _Lane, call: _Call, work: Any) -> None:
        # From its arrival: what had to wait for others has less time left, not more to wait.
        left = HANDLER_S - (time.perf_counter() - call.started)
        try:
            async with asyncio.timeout(max(left, 0.0)):
                result = await work
        except Exception as error:
            self._fail(connection, call, error)
        else:
            self._answer(
                connection, call, getattr(getattr(result, "message", None), "json", result)
            )
            await self._let_read(connection, lane)
        finally:
            lane.busy = False
            self._go_on(connection, lane)

    async def _let_read(self, connection: Connection, lane: _Lane) -> None:
        """The next begins when the client has taken the answers; what waited for that has no less time."""
        began = time.perf_counter()
        await connection.session.drained()
        ended = time.perf_counter()
        for call in lane.backlog:
            call.started = min(call.started + ended - began, ended)

    def _go_on(self, connection: Connection, lane: _Lane) -> None:
        while lane.backlog and not lane.busy:
            waiting = len(lane.backlog)
            self._begin(connection, lane, lane.backlog.popleft())
            if len(lane.backlog) == waiting:
                # It went back to wait, behind nobody: put it first again.
                lane.backlog.rotate(1)
                break
        if lane.paused and len(lane.backlog) <= BACKLOG // 2 and not lane.gone:
            lane.paused = False
            connection.pause(False)

    # --- answers --------------------------------------------------------------------------------

    def _answer(self, connection: Connection, call: _Call, data: Any) -> None:
        if call.packet_id is not None:
            connection.ack(call.packet_id, {"ok": True, "data": data})
        elif call.event.reply:
            connection.emit(call.event.reply, data)
        self._note(call.event.name, "OK", call.started, connection, call.request)

    def _fail(self, connection: Connection, call: _Call, error: BaseException) -> None:
        name, packet_id = call.event.name, call.packet_id
        self._refuse(
            connection, name, refusal(error), packet_id, call.started, request=call.request
        )

    def _refuse(
        self,
        connection: Connection,
        name: str,
        error: ChatError,
        packet_id: int | None,
        started: float,
        *,
        said: str | None = None,
        request: Any = None,
    ) -> None:
        if packet_id is not None:
            connection.ack(packet_id, {"ok": False, "error": error.wire()})
        else:
            connection.emit("error", {**error.wire(), "event": printable(said or name)})
        self._note(name, error.code, started, connection, request)

    def _note(
        self, name: str, code: str, started: float, connection: Connection, request: Any = None
    ) -> None:
        seconds = time.perf_counter() - started
        self._metrics.observe("socket", name, code, seconds)
        if log.is_enabled_for(logging.INFO):
            log.info(
                "event",
                name=name,
                code=code,
                ms=round(seconds * 1000, 2),
                sid=connection.sid,
                user=connection.user_id,
                **ids_of(request),
            )

    async def close(self) -> None:
        """Wait for what is being handled."""
        while self._tasks:
            await asyncio.wait(self._tasks)


def _token(environ: dict[str, Any], auth: Any) -> str:
    """From `auth: {token}` or the Authorization header; never from the query string, which is logged
    by every proxy on the way."""
    if isinstance(auth, dict) and isinstance(auth.get("token"), str):
        return str(auth["token"])
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated()
    return str(token.strip())
