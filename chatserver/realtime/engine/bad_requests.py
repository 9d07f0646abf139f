"""Refuses requests that violate Engine.IO, before anything else is done for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
from aiohttp import WSCloseCode, web

UNKNOWN_TRANSPORT, UNKNOWN_SESSION, BAD_METHOD, BAD_REQUEST, FORBIDDEN, OTHER_VERSION = range(6)
SECOND_WEBSOCKET = 6
"""Not a code of the protocol: `turned_away` refuses the request after the handshake."""

TURNED_AWAY_S = 5.0
"""How long a client may take to close its second WebSocket."""

_MEANINGS = (
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "Forbidden",
    "Unsupported protocol version",
)


class SessionState(Protocol):
    """The state of a session on which its valid requests depend."""

    connected: bool
    upgraded: bool
    closing: bool

    @property
    def websocket(self) -> object | None: ...


class ServerState(Protocol):
    """The state of an engine.io server on which valid requests depend."""

    transports: Sequence[str]
    allow_upgrades: bool

    @property
    def sockets(self) -> Mapping[str, SessionState]: ...


def refused(code: int, message: str | None = None, status: str = "400 BAD REQUEST") -> Any:
    """Returns a response in engineio's form, whose body has a code of the reference server."""
    return {
        "status": status,
        "headers": [("Content-Type", "application/json")],
        "response": orjson.dumps({"code": code, "message": message or _MEANINGS[code]}),
    }


async def turned_away(request: web.Request) -> web.StreamResponse:
    """Accept the handshake, then close. A client cannot see the status of a refused handshake, and clients
    other than browsers take the refusal for a network failure."""
    websocket = web.WebSocketResponse(timeout=TURNED_AWAY_S, compress=False, max_msg_size=1024)
    await websocket.prepare(request)
    await websocket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"the session has a WebSocket")
    return websocket


def what_to_do(server: ServerState, code: int) -> str | None:
    """Returns a hint for developers if the meaning of the code does not say enough, otherwise None."""
    if code == UNKNOWN_TRANSPORT and server.transports == ["websocket"]:
        return 'Only WebSocket is enabled here: connect with transports: ["websocket"]'
    return None


def refusal(server: ServerState, request: web.BaseRequest) -> int | None:
    """Returns the code of the error in a request, or None if the request is valid."""
    transport = request.query.get("transport")
    if transport not in server.transports:
        return UNKNOWN_TRANSPORT
    speaks = request.query.get("EIO") == "4"
    if bool(transport == "websocket") != _upgrades(request):
        right_way = False
    else:
        right_way = request.method == "GET" or transport == "polling"
    if not (sid := request.query.get("sid")):
        if request.method != "GET":
            return BAD_METHOD
        if not speaks:
            return OTHER_VERSION
        return None if right_way else BAD_REQUEST

    session = server.sockets.get(sid)
    if session is None or session.closing:
        return UNKNOWN_SESSION
    if not speaks or not right_way or request.method not in ("GET", "POST"):
        return BAD_REQUEST
    if not session.connected:
        return BAD_REQUEST  # the handshake has no response yet
    if transport == "websocket":
        if session.upgraded or session.websocket is not None:
            return SECOND_WEBSOCKET
        return None if server.allow_upgrades else BAD_REQUEST
    return BAD_REQUEST if session.upgraded else None


def _upgrades(request: web.BaseRequest) -> bool:
    tokens = [token.strip() for token in request.headers.get("Connection", "").lower().split(",")]
    return "upgrade" in tokens and request.headers.get("Upgrade", "").lower() == "websocket"
