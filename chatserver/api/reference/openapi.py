"""REST, the internal API and the webhooks, as OpenAPI 3.1."""

from __future__ import annotations

import re

from ... import __version__
from ...errors import (
    Forbidden,
    Internal,
    PayloadTooLarge,
    RateLimited,
    TokenExpired,
    Unauthenticated,
    Unavailable,
    ValidationFailed,
)
from ...outbox.event import TYPES
from ..http import REQUEST_ID
from ..operations.operation import Operation, Route
from ..operations.table import FOR_USERS, INTERNAL
from ..rate_limits import Rate
from ..requests.schema import Request
from .errors import refusals
from .json_schema import Document, Shapes
from .probes import probes
from .webhooks import webhook

INFO = """\
The Master Service proxies the REST API for its users, and registers them through the internal API. Both are
served on `PORT`, which belongs in a private network.

The server refuses unknown keys in requests. Ignore unknown keys in responses. Ids are opaque. Times are
ISO 8601 in UTC with milliseconds. All errors have the same shape. A user who is not a participant gets
`NOT_FOUND` for a conversation and everything in it.

Every request below `/api` may have an `X-Request-Id`, and every response has one. With it you find the request
in the log and in the traces.
"""

ANYWHERE = (Unauthenticated, ValidationFailed, PayloadTooLarge, Internal, Unavailable)
TO_USERS = (*ANYWHERE, TokenExpired, Forbidden, RateLimited)
"""Errors that every route for users can return: an invalid token, a blocked user, a rate limit."""

TAGS = {
    "conversations": "Conversations and their participants.",
    "messages": "Messages and reactions.",
    "receipts": "Read marks and unread counts.",
    "presence": "Users who are online.",
    "internal": "For the Master Service itself: its users, and the administration of webhooks.",
    "jobs": "Work that goes on after the request that began it, for the Master Service and operators.",
    "webhooks": "Events that the server posts to the Master Service.",
    "operation": "For load balancers and Prometheus. Only `/health` is also on `WS_PORT`.",
}
SECURITY: Document = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT signed by the Master Service. `sub` is the user's id, and `exp` is required.",
    },
    "secret": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Internal-Secret",
        "description": "`INTERNAL_API_SECRET`, which only the Master Service and this server know.",
    },
    "user": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Id",
        "description": "With the secret: the user for whom the Master Service acts, without rate limits. Any id "
        "can be written as `UTF-8''<percent-encoded>`; a plain value is read as UTF-8, or else as Latin-1.",
    },
}

REQUEST: Document = {
    "name": REQUEST_ID,
    "in": "header",
    "required": False,
    "description": "The caller's id for this request: at most 128 letters, digits and `. _ : + / = ~ -`. "
    "Any other value is replaced by a generated id.",
    # No pattern, because a value that does not match is replaced, not refused.
    "schema": {"type": "string"},
    "example": "checkout-7f3a",
}
ANSWERED: Document = {
    "description": "The caller's id for the request, or a generated one.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[\\w.:+/=~-]{1,128}$"},
}
FOLLOWED = {"$ref": "#/components/parameters/RequestId"}
FOLLOWING = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}


def openapi() -> Document:
    shapes = Shapes()
    responses: Document = {}
    paths: dict[str, Document] = {}
    for operation in (*FOR_USERS, *INTERNAL):
        if (route := operation.route) is None:
            continue
        for_users = operation not in INTERNAL
        made = _operation(shapes, operation, route, for_users=for_users)
        refuses = (*(TO_USERS if for_users else ANYWHERE), *operation.refuses)
        made["responses"] |= refusals(shapes, responses, refuses, FOLLOWING)
        paths.setdefault(route.path, {})[route.method.lower()] = made
    paths |= probes(shapes)
    webhooks = {kind: {"post": webhook(shapes, kind)} for kind in TYPES}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "chatserver",
            "version": __version__,
            "summary": "REST, the internal API and the webhooks of a self-hosted chat server.",
            "description": INFO,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This server, on `PORT`."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "schemas": shapes.components,
            "responses": dict(sorted(responses.items())),
            "parameters": {"RequestId": REQUEST},
            "headers": {"RequestId": ANSWERED},
            "securitySchemes": SECURITY,
        },
    }


def _operation(shapes: Shapes, row: Operation, route: Route, *, for_users: bool) -> Document:
    """Returns an operation without its errors. `for_users`: True for REST, False for the internal API."""
    made: Document = {
        "tags": [row.topic],
        "operationId": row.name.replace(".", "_"),
        "summary": _sentence(row.handler.__doc__),
        "security": [{"secret": []}],
    }
    if for_users:
        made["security"] = [{"token": []}, {"secret": [], "user": []}]
        made |= rate(route.limit, row.price)
    if row.effects:
        made["description"] = " ".join([*filter(None, [made.get("description")]), row.effects])
    inside, outside = _split(row, route)
    made["parameters"] = [*(_parameter(shapes, row, route, name) for name in outside), FOLLOWED]
    if inside:
        made["requestBody"] = _body(shapes, row.request, inside, route.max_body)
    made["responses"] = _successes(shapes, row, route)
    return made


def rate(limit: Rate, price: str) -> Document:
    """Returns a rate limit, and the tokens that a request takes, in words and as data."""
    words = f"At most {limit.count} in {limit.per:g} s, with bursts of {limit.burst}."
    data = {"count": limit.count, "perSeconds": limit.per, "atOnce": limit.burst, "cost": price}
    counts = "" if price == "1" else f" A request costs {price}."
    return {"description": words + counts, "x-rate-limit": data}


def _split(row: Operation, route: Route) -> tuple[list[str], list[str]]:
    """Returns the keys of a payload that are in the body, and the keys in the path or the query."""
    keys = [field.data_key or "" for field in row.request().fields.values()]
    in_path = re.findall(r"\{(\w+)\}", route.path)
    rest = [key for key in keys if key not in in_path]
    if route.method in ("GET", "DELETE"):
        return [], in_path + rest
    return rest, in_path


def _parameter(shapes: Shapes, row: Operation, route: Route, name: str) -> Document:
    whole = shapes.request(row.request, [name])
    schema = whole["properties"][name]
    in_path = f"{{{name}}}" in route.path
    made: Document = {
        "name": name,
        "in": "path" if in_path else "query",
        "required": in_path or name in whole.get("required", ()),
        "schema": schema,
        "example": schema.get("default", shapes.example(schema, name)),
    }
    if "description" in schema:
        made["description"] = schema.pop("description")
    return made


def _body(shapes: Shapes, kind: type[Request], names: list[str], max_body: int) -> Document:
    schema = shapes.request(kind, names)
    reference = shapes.keep(kind.__name__, schema)
    return {
        "required": bool(schema.get("required")) or bool(kind.json_schema),
        "description": f"At most {max_body // 1024} KiB.",
        "content": shapes.json(reference),
    }


def _successes(shapes: Shapes, row: Operation, route: Route) -> Document:
    meanings = {"200": route.known, "201": "Created."} if route.known else {"200": "Done."}
    if row.answers is None:
        done: Document = {"204": {"description": "Done.", "headers": FOLLOWING}}
        if route.background:
            content = shapes.json({"type": "object", "additionalProperties": False})
            underway = {"description": route.background, "headers": FOLLOWING, "content": content}
            done["202"] = underway
        return done
    content = shapes.json(shapes.answer(row.answers))
    return {
        status: {"description": text, "headers": FOLLOWING, "content": content}
        for status, text in meanings.items()
    }


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
