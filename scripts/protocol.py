"""Generates the tables of docs/protocol.md, docs/openapi.json, docs/asyncapi.json and the TypeScript client's
types from the rows and schemas of the doors, and docs/settings.md (settings.py)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import settings
from marshmallow import fields, validate
from typescript import MODULE, module

from chatserver import errors
from chatserver.api.operations.table import FOR_USERS, INTERNAL
from chatserver.api.reference.asyncapi import asyncapi, events
from chatserver.api.reference.openapi import openapi
from chatserver.api.requests.schema import Emoji, Id, Metadata, Request, Text, WebUrl
from chatserver.api.requests.webhooks import EndpointName, EventType, Flag, Moment
from chatserver.api.responses.response import Answer
from chatserver.api.sockets.server_events import SERVER_EVENTS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "protocol.md"
BEGIN, END = "<!-- tables: ./scripts/protocol --write -->\n", "<!-- end of tables -->\n"


def payload(kind: type[Request]) -> str:
    schema = kind()
    if not schema.fields:
        return "`{}`"
    keys = [
        f"{field.data_key}{'' if field.required else '?'}: {of(field)}"
        for field in schema.fields.values()
    ]
    return "`{" + ", ".join(keys) + "}`"


def of(field: fields.Field) -> str:
    """Returns the type of a field in words."""
    match field:
        case fields.List(inner=inner):
            return f"[{of(inner)}]{bounds(field)}"
        case fields.Nested():
            inside = [
                f"{name}{'' if inner.required else '?'}: {of(inner)}"
                for name, inner in field.schema.fields.items()
            ]
            return "{" + ", ".join(inside) + "}"
        case WebUrl():
            return "/".join(field.schemes) + " URL" + nullable(field)
        case Id():
            return "id" + nullable(field)
        case Emoji():
            return "emoji"
        case Metadata():
            return "flat object"
        case EndpointName():
            return "name of an endpoint"
        case EventType():
            return "type of event"
        case Moment():
            return "time"
        case Flag():
            return "boolean"
        case Text():
            return f"text{bounds(field)}{nullable(field)}"
        case fields.Integer():
            return f"integer{bounds(field)}"
    return "object"


def bounds(field: fields.Field) -> str:
    for check in field.validators:
        match check:
            case validate.OneOf(choices=choices):
                return " " + "/".join(choices)
            case (
                validate.Length(min=minimum, max=maximum) | validate.Range(min=minimum, max=maximum)
            ):
                return f" {minimum or 0}..{'2^53' if maximum == 2**53 - 1 else maximum}"
    return ""


def nullable(field: fields.Field) -> str:
    return " or null" if field.allow_none else ""


def answer(kind: type[Answer] | None, known: str = "", background: str = "") -> str:
    """Returns the response, in words or as its keys."""
    if kind is None:
        return (
            f"204, or 202 `{{}}`: {background[0].lower()}{background[1:-1]}"
            if background
            else "204"
        )
    words = kind.called or f"`{shape(kind)}`"
    return f"201 (200: {known[0].lower()}{known[1:-1]}) {words}" if known else words


def shape(kind: type[Answer]) -> str:
    """Returns the keys, including those of list items that have no name of their own."""
    keys = []
    for name, field in kind().fields.items():
        inner = field.inner if isinstance(field, fields.List) else None
        nested = inner.schema if isinstance(inner, fields.Nested) else None
        inside = isinstance(nested, Answer) and not nested.called
        optional = "?" if name in kind.sometimes else ""
        keys.append(f"{field.data_key}{optional}{f': [{shape(type(nested))}]' if inside else ''}")
    return "{" + ", ".join(keys) + "}"


def tables() -> str:
    lines = [
        "### Client to server\n",
        "| event | payload | `data` of the acknowledgement | limit | cost |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{event.name}` | {payload(operation.request)} | {answer(operation.answers)} | {event.limit} | {operation.price} |"
        for event, operation in events()
    ]
    lines += ["\n### Server to client\n", "| event | payload | sent to |", "|---|---|---|"]
    lines += [
        f"| `{event.name}` | {answer(event.payload)} | {event.to} |" for event in SERVER_EVENTS
    ]
    lines += [
        "\n### REST, on `PORT`\n",
        "| request | payload | response | limit | cost |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{route.method} {route.path}` | {payload(operation.request)} "
        f"| {answer(operation.answers, route.known, route.background)} | {route.limit} "
        f"| {operation.price} |"
        for operation in FOR_USERS
        if (route := operation.route)
    ]
    lines += [
        "\n### Internal API, on `PORT`\n",
        "| request | payload | response |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{route.method} {route.path}` | {payload(operation.request)} "
        f"| {answer(operation.answers, route.known, route.background)} |"
        for operation in INTERNAL
        if (route := operation.route)
    ]
    lines += ["\n### Errors\n", "| code | status | meaning |", "|---|---|---|"]
    kinds = sorted(errors.ChatError.__subclasses__(), key=lambda kind: kind.status)
    lines += [f"| `{kind.code}` | {kind.status} | {kind.__doc__} |" for kind in kinds]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    head, rest = PAGE.read_text().split(BEGIN)
    return f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def document(made: dict[str, Any]) -> str:
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    text = tables()
    files = {
        PAGE: page(text),
        DOCS / "openapi.json": document(openapi()),
        DOCS / "asyncapi.json": document(asyncapi()),
        MODULE: module(),
        settings.PAGE: settings.page(),
    }
    match sys.argv[1:]:
        case ["--write"]:
            for path, current in files.items():
                path.write_text(current)
        case ["--check"]:
            for path, current in files.items():
                if not path.exists() or path.read_text() != current:
                    sys.exit(f"{path.name} differs from the code: run ./scripts/protocol --write")
        case _:
            sys.stdout.write(text)


if __name__ == "__main__":
    main()
