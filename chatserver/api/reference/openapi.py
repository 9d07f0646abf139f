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
from ..internal.door import ROUTES as INTERNAL
from ..rate_limits import Rate
from ..requests.parse import Request
from ..rest.door import ROUTES as REST
from ..route import Route
from .errors import refusals
from .json_schema import Document, Shapes
from .probes import probes
from .webhooks import webhook

INFO = """\
The Master Service proxies the REST API for its users, and tells of them through the internal API. All
of it is served on `PORT`, which belongs into a private network.

Keys that the server does not know are refused in a request; ignore those that you do not know in an
answer. Ids are opaque. Times are ISO 8601 in UTC with milliseconds. Every refusal has one shape, and
someone who is not a participant gets `NOT_FOUND` for a conversation and everything in it.

Every request below `/api` may have an `X-Request-Id`, and every answer has one: by it the request is found in the
log, and in the traces.
"""

ANYWHERE = (Unauthenticated, ValidationFailed, PayloadTooLarge, Internal, Unavailable)
FOR_USERS = (*ANYWHERE, TokenExpired, Forbidden, RateLimited)
"""What any route may refuse a user: a token that is none, a user who is blocked, a rate too high."""

TAGS = {
    "conversations": "Conversations and who participates in them.",
    "messages": "Messages and reactions.",
    "receipts": "What was read, and by whom.",
    "presence": "Who is online.",
    "internal": "For the Master Service itself: its users, and the operator's desk of the webhooks.",
    "webhooks": "What the server tells the Master Service.",
    "operation": "For balancers and Prometheus. Only `/health` is on `WS_PORT`, too.",
}
SECURITY: Document = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT that the Master Service has signed: `sub` is the user, `exp` is required.",
    },
    "secret": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Internal-Secret",
        "description": "What only the Master Service and this server know: `INTERNAL_API_SECRET`.",
    },
    "user": {
        "type": "apiKey",
        "in": "header",
        "name": "X-User-Id",
        "description": "Beside the secret: the user for whom the Master Service acts, without rate limits.",
    },
}

REQUEST: Document = {
    "name": REQUEST_ID,
    "in": "header",
    "required": False,
    "description": "What the caller calls this request: at most 128 letters, digits and `. _ : + / = ~ -`. "
    "Another one is made in place of what is not.",
    # No pattern: what does not match is replaced, and not refused.
    "schema": {"type": "string"},
    "example": "checkout-7f3a",
}
ANSWERED: Document = {
    "description": "As the caller has called the request; else what it is called here.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[\\w.:+/=~-]{1,128}$"},
}
FOLLOWED = {"$ref": "#/components/parameters/RequestId"}
FOLLOWING = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}


def openapi() -> Document:
    shapes = Shapes()
    responses: Document = {}
    paths: dict[str, Document] = {}
    table = [*((row, True) for row in REST), *((row, False) for row in INTERNAL)]
    for row, for_users in table:
        operation = _operation(shapes, row, for_users=for_users)
        refuses = (*(FOR_USERS if for_users else ANYWHERE), *row.refuses)
        operation["responses"] |= refusals(shapes, responses, refuses, FOLLOWING)
        paths.setdefault(row.path, {})[row.method.lower()] = operation
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


def _operation(shapes: Shapes, row: Route, *, for_users: bool) -> Document:
    """An operation without its refusals. `for_users`: a route of the REST API, not of the internal API."""
    noun = row.handler.__module__.rpartition(".")[2]
    tag = noun if for_users else "internal"
    made: Document = {
        "tags": [tag],
        "operationId": f"{tag}_{row.handler.__name__}",
        "summary": _sentence(row.handler.__doc__),
        "security": [{"secret": []}],
    }
    if for_users:
        made["security"] = [{"token": []}, {"secret": [], "user": []}]
        made |= rate(row.limit)
    inside, outside = _split(row)
    made["parameters"] = [*(_parameter(shapes, row, name) for name in outside), FOLLOWED]
    if inside:
        made["requestBody"] = _body(shapes, row.request, inside, row.max_body)
    made["responses"] = _successes(shapes, row)
    return made


def rate(limit: Rate) -> Document:
    """A limit in words, and for programs."""
    return {
        "description": f"At most {limit.count} in {limit.per:g} s, {limit.burst} at once.",
        "x-rate-limit": {"count": limit.count, "perSeconds": limit.per, "atOnce": limit.burst},
    }


def _split(row: Route) -> tuple[list[str], list[str]]:
    """The keys of a payload that are in the body, and those in the path or the query."""
    keys = [field.data_key or "" for field in row.request().fields.values()]
    in_path = re.findall(r"\{(\w+)\}", row.path)
    rest = [key for key in keys if key not in in_path]
    if row.method in ("GET", "DELETE"):
        return [], in_path + rest
    return rest, in_path


def _parameter(shapes: Shapes, row: Route, name: str) -> Document:
    whole = shapes.request(row.request, [name])
    schema = whole["properties"][name]
    in_path = f"{{{name}}}" in row.path
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


def _successes(shapes: Shapes, row: Route) -> Document:
    meanings = {"200": row.known, "201": "It is new."} if row.known else {"200": "Done."}
    if row.answers is None:
        return {"204": {"description": "Done.", "headers": FOLLOWING}}
    content = shapes.json(shapes.answer(row.answers))
    return {
        status: {"description": text, "headers": FOLLOWING, "content": content}
        for status, text in meanings.items()
    }


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
