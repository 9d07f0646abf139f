"""The events of sockets, as AsyncAPI 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import __version__
from ...errors import (
    ChatError,
    Internal,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
    ValidationFailed,
)
from ...realtime.rooms.rooms import Rooms
from ..auth import Tokens
from ..operations.operation import Event, Operation
from ..responses.response import NothingResponse, ServerEvent
from ..sockets.client_events import socket_operations
from ..sockets.server_events import SERVER_EVENTS
from ..sockets.token_expiry import Expiry
from .json_schema import Document, Shapes
from .openapi import rate

INFO = """\
Socket.IO (protocol 5, Engine.IO 4) at `/socket.io/` on `WS_PORT`, namespace `/`, over WebSocket or long
polling with upgrade. Connect with `auth: {token}`. If the server refuses the connection, the client gets a
`connect_error` whose `data` is an error.

Every client event takes an acknowledgement callback, which receives `{ok: true, data}` or
`{ok: false, error}`. Without a callback, a failure arrives as the event `error`. Events of one socket are
handled in order. Ignore unknown keys.

Every change of a conversation has a `rev`. A socket receives changes in the order of `rev`, each exactly once.
After a reconnection, send `messages:sync` to get the missed changes.
"""

ALWAYS = (ValidationFailed, PayloadTooLarge, RateLimited, Internal, Unavailable)
"""Errors that every event can return."""


def events() -> list[tuple[Event, Operation]]:
    """Returns the operations that have an event, without a server."""
    nothing: Any = None
    rooms = Rooms(nothing)
    return socket_operations(rooms, Tokens(()), Expiry(rooms))


def asyncapi() -> Document:
    shapes = Shapes()
    messages: Document = {}
    operations: Document = {}
    for event, operation in events():
        messages |= _sent(shapes, event, operation)
        operations[_key("send", event.name)] = _sending(event, operation)
    for server_event in SERVER_EVENTS:
        key = _key("hear", server_event.name)
        messages[key] = _received(shapes, server_event)
        operations[key] = {
            "action": "send",
            "channel": {"$ref": "#/channels/chat"},
            "title": server_event.name,
            "summary": f"Sent to {server_event.to}.",
            "messages": [_on_channel(key)],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "chatserver",
            "version": __version__,
            "description": INFO,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "sockets": {
                "host": "127.0.0.1:3001",
                "pathname": "/socket.io/",
                "protocol": "ws",
                "description": "This server, on `WS_PORT`. Behind a balancer with TLS, use `wss`.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": {
            "chat": {
                "address": "/",
                "title": "The namespace /",
                "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in messages},
            }
        },
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": shapes.components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "In `auth: {token}` or the `Authorization` header, never in the query "
                    "string. `sub` is the user's id, and `exp` is required.",
                }
            },
        },
    }


def _sent(shapes: Shapes, event: Event, operation: Operation) -> Document:
    """Returns the messages of an event and its acknowledgement."""
    kind = operation.request
    payload = shapes.keep(kind.__name__, shapes.request(kind))
    data = shapes.answer(operation.answers or NothingResponse)
    whole = "SendMessage to" if kind.__name__ == "SendMessage" else kind.__name__
    return {
        _key("send", event.name): {
            "name": event.name,
            "title": event.name,
            "payload": payload,
            "examples": [{"payload": shapes.example(shapes.request(kind), owner=whole)}],
        },
        _key("ack", event.name): {
            "name": f"{event.name} (acknowledgement)",
            "title": f"The acknowledgement of {event.name}",
            "payload": {
                "oneOf": [
                    _object(ok={"type": "boolean", "const": True}, data=data),
                    _object(
                        ok={"type": "boolean", "const": False},
                        error={"oneOf": [shapes.error(error) for error in refusals(operation)]},
                    ),
                ]
            },
            "examples": [{"payload": {"ok": True, "data": shapes.example(data)}}],
        },
    }


def refusals(operation: Operation) -> Sequence[type[ChatError]]:
    return sorted({*ALWAYS, *operation.refuses}, key=lambda kind: (kind.status, kind.code))


def _sending(event: Event, operation: Operation) -> Document:
    key = _key("send", event.name)
    made: Document = {
        "action": "receive",
        "channel": {"$ref": "#/channels/chat"},
        "title": event.name,
        "summary": " ".join((operation.handler.__doc__ or "").split()),
        **rate(event.limit, operation.price),
        "messages": [_on_channel(key)],
        "reply": {
            "channel": {"$ref": "#/channels/chat"},
            "messages": [_on_channel(_key("ack", event.name))],
        },
    }
    if operation.effects:
        made["description"] += f" {operation.effects}"
    if event.reply:
        made["description"] += f" Without a callback, the reply is the event `{event.reply}`."
    return made


def _received(shapes: Shapes, server_event: ServerEvent) -> Document:
    payload = shapes.answer(server_event.payload)
    return {
        "name": server_event.name,
        "title": server_event.name,
        "payload": payload,
        "examples": [{"payload": shapes.example(payload)}],
    }


def _object(**properties: Document) -> Document:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _key(kind: str, name: str) -> str:
    return f"{kind}.{name.replace(':', '.')}"


def _on_channel(key: str) -> Document:
    return {"$ref": f"#/channels/chat/messages/{key}"}
