"""Which requests are no Engine.IO: asked before anything is done for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
from aiohttp import WSCloseCode, web

UNKNOWN_TRANSPORT, UNKNOWN_SESSION, BAD_METHOD, BAD_REQUEST, FORBIDDEN, OTHER_VERSION = range(6)
SECOND_WEBSOCKET = 6
"""None of the protocol's: refused by `turned_away`, as a client that shakes hands expects to be."""

TURNED_AWAY_S = 5.0
"""How long a client may take to hang up its second WebSocket."""

_MEANINGS = (
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "Forbidden",
    "Unsupported protocol version",
)


class SessionState(Protocol):
    """What decides which requests a session may have."""

    connected: bool
    upgraded: bool
    closing: bool

    @property
    def websocket(self) -> object | None: ...


class ServerState(Protocol):
    """What decides which requests an engine.io server takes."""

    transports: Sequence[str]
    allow_upgrades: bool

    @property
    def sockets(self) -> Mapping[str, SessionState]: ...


def refused(code: int, message: str | None = None, status: str = "400 BAD REQUEST") -> Any:
    """An answer in engineio's form; the body has the codes that the reference server gives."""
    return {
        "status": status,
        "headers": [("Content-Type", "application/json")],
        "response": orjson.dumps({"code": code, "message": message or _MEANINGS[code]}),
    }


async def turned_away(request: web.Request) -> web.StreamResponse:
    """Shake hands and hang up. A client cannot see the status of a refused handshake; and those that
    are no browsers take it for a network that fails, not for a server that declines."""
    websocket = web.WebSocketResponse(timeout=TURNED_AWAY_S, compress=False, max_msg_size=1024)
    await websocket.prepare(request)
    await websocket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"the session has a WebSocket")
    return websocket


def what_to_do(server: ServerState, code: int) -> str | None:
    """A sentence for whoever reads the answer, where the meaning of the code does not say enough."""
    if code == UNKNOWN_TRANSPORT and server.transports == ["websocket"]:
        return 'Only WebSocket is served here: connect with transports: ["websocket"]'
    return None


def refusal(server: ServerState, request: web.BaseRequest) -> int | None:
    """The code of what is wrong with a request; None when it may go on."""
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
        return BAD_REQUEST  # it is about to have its first answer
    if transport == "websocket":
        if session.upgraded or session.websocket is not None:
            return SECOND_WEBSOCKET
        return None if server.allow_upgrades else BAD_REQUEST
    return BAD_REQUEST if session.upgraded else None


def _upgrades(request: web.BaseRequest) -> bool:
    tokens = [token.strip() for token in request.headers.get("Connection", "").lower().split(",")]
    return "upgrade" in tokens and request.headers.get("Upgrade", "").lower() == "websocket"
