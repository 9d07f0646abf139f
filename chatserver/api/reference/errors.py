"""Errors in OpenAPI: a response per status, shared by the routes with the same errors."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ChatError, RateLimited, TokenExpired, ValidationFailed
from .json_schema import Document, Shapes


def refusals(
    shapes: Shapes, responses: Document, kinds: Sequence[type[ChatError]], headers: Document
) -> Document:
    """Returns references to the responses of these errors, by status. Responses that are not in `responses`
    yet are added, with `headers`."""
    by_status: dict[int, list[type[ChatError]]] = {}
    for kind in sorted(set(kinds), key=lambda kind: (kind.status, kind.code)):
        by_status.setdefault(kind.status, []).append(kind)
    made: Document = {}
    for status, same in by_status.items():
        name = "Or".join(kind.__name__ for kind in same)
        if name not in responses:
            responses[name] = _response(shapes, same, headers)
        made[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return made


def _response(shapes: Shapes, kinds: Sequence[type[ChatError]], headers: Document) -> Document:
    errors = [shapes.error(kind) for kind in kinds]
    schema = {
        "type": "object",
        "properties": {"error": errors[0] if len(errors) == 1 else {"oneOf": errors}},
        "required": ["error"],
    }
    made: Document = {
        "description": " Or: ".join(kind.__doc__ or "" for kind in kinds),
        "headers": dict(headers),
        "content": shapes.json(schema, {"error": _refusal(kinds[0])}),
    }
    if RateLimited in kinds:
        made["headers"]["Retry-After"] = {
            "description": "`details.retryAfter`, rounded up to whole seconds.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    return made


def _refusal(kind: type[ChatError]) -> Document:
    made: Document = {"code": kind.code, "message": kind.__doc__}
    if kind is ValidationFailed:
        made["details"] = {"content": ["Must have at most 10000 characters."]}
    if kind is RateLimited:
        made["details"] = {"retryAfter": 0.35}
    if kind is TokenExpired:
        made["details"] = {"reason": "expired"}
    return made | {"timestamp": "2026-11-21T09:30:00.000Z"}
