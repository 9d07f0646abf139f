"""Which requests are no Engine.IO: asked before anything is done for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from .engine import EngineServer

UNKNOWN_TRANSPORT, UNKNOWN_SESSION, BAD_METHOD, BAD_REQUEST, FORBIDDEN, OTHER_VERSION = range(6)

_MEANINGS = (
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "Forbidden",
    "Unsupported protocol version",
)


def refused(code: int, message: str | None = None, status: str = "400 BAD REQUEST") -> Any:
    """An answer in engineio's form; the body has the codes that the reference server gives."""
    return {
        "status": status,
        "headers": [("Content-Type", "application/json")],
        "response": orjson.dumps({"code": code, "message": message or _MEANINGS[code]}),
    }


def refusal(server: EngineServer, request: web.BaseRequest) -> int | None:
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
    if session.upgraded or not session.connected:
        # It has a WebSocket, or is about to have its first answer.
        return BAD_REQUEST
    if transport == "websocket" and (session.websocket is not None or not server.allow_upgrades):
        return BAD_REQUEST
    return None


def _upgrades(request: web.BaseRequest) -> bool:
    tokens = [one.strip() for one in request.headers.get("Connection", "").lower().split(",")]
    return "upgrade" in tokens and request.headers.get("Upgrade", "").lower() == "websocket"
