"""The webhooks in OpenAPI."""

from __future__ import annotations

from ..responses.webhooks import DATA
from .json_schema import Document, Shapes


def webhook(shapes: Shapes, kind: str) -> Document:
    name = "Event" + "".join(map(str.title, kind.split(".")))
    data = shapes.answer(DATA[kind])
    event = shapes.keep(
        name,
        {
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "The same on every retry."},
                "type": {"type": "string", "const": kind},
                "timestamp": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When it happened.",
                },
                "data": data,
            },
            "required": ["id", "type", "timestamp", "data"],
        },
    )
    example = {
        "id": shapes.example({"type": "string"}, "eventId"),
        "type": kind,
        "timestamp": "2026-11-21T09:30:00.000Z",
        "data": shapes.example(data),
    }
    return {
        "tags": ["webhooks"],
        "operationId": f"webhooks_{kind.replace('.', '_')}",
        "summary": f"The event `{kind}`.",
        "description": "Posted to each endpoint that subscribes to it: at least once, and in order per "
        "conversation or user. Skip an `id` that you have already received.",
        "security": [],
        "parameters": [
            _header("X-Webhook-Id", "The id of the event, the same on every retry."),
            _header("X-Webhook-Event", "The type of the event."),
            _header(
                "X-Webhook-Signature",
                "`t=<unix seconds>,v1=<hex>`: the HMAC-SHA256 of `<t>.<body>` with WEBHOOK_SECRET. While "
                "the secret is rotated, there is one `v1` per secret.",
            ),
        ],
        "requestBody": {"required": True, "content": shapes.json(event, example)},
        "responses": {
            "2XX": {"description": "Delivered, if it arrives within 10 s. The body is not read."},
            "410": {"description": "The event becomes a dead letter immediately."},
            "429": {"description": "Retried after `Retry-After`."},
            "503": {"description": "Retried after `Retry-After`."},
            "default": {
                "description": "Retried after about 1 s, 2 s, 4 s …, at most 1 h, for 24 h. Redirects are "
                "not followed."
            },
        },
    }


def _header(name: str, text: str) -> Document:
    return {
        "name": name,
        "in": "header",
        "required": True,
        "description": text,
        "schema": {"type": "string"},
    }
