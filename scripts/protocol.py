"""The tables of docs/protocol.md, from the rows that the doors are made of."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from marshmallow import fields, validate

from chatserver import errors
from chatserver.auth import Tokens
from chatserver.internal.door import ROUTES as INTERNAL
from chatserver.limits import Rate
from chatserver.realtime.rooms import Rooms
from chatserver.requests.fields import Emoji, Id, Metadata, Text
from chatserver.requests.parse import Request
from chatserver.requests.webhooks import EndpointName, EventType, Flag, Moment
from chatserver.rest.door import ROUTES as REST
from chatserver.sockets.expiry import Expiry
from chatserver.sockets.table import rows

PAGE = Path(__file__).parent.parent / "docs" / "protocol.md"
BEGIN, END = "<!-- tables: ./scripts/protocol --write -->\n", "<!-- end of tables -->\n"


def payload(kind: type[Request]) -> str:
    schema = kind()
    if not schema.fields:
        return "`{}`"
    keys = [
        f"{one.data_key}{'' if one.required else '?'}: {of(one)}" for one in schema.fields.values()
    ]
    return "`{" + ", ".join(keys) + "}`"


def of(field: fields.Field) -> str:
    """The type of a field in words."""
    match field:
        case fields.List(inner=inner):
            return f"[{of(inner)}]{bounds(field)}"
        case fields.Nested():
            inside = [
                f"{name}{'' if one.required else '?'}: {of(one)}"
                for name, one in field.schema.fields.items()
            ]
            return "{" + ", ".join(inside) + "}"
        case fields.Url():
            schemes = next(one.schemes for one in field.validators if isinstance(one, validate.URL))
            return "/".join(sorted(schemes)) + " URL" + nullable(field)
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
            case validate.Length(min=least, max=most) | validate.Range(min=least, max=most):
                return f" {least or 0}..{'2^53' if most == 2**53 - 1 else most}"
    return ""


def nullable(field: fields.Field) -> str:
    return " or null" if field.allow_none else ""


def rate(limit: Rate) -> str:
    return f"{limit.count} / {limit.per:g} s, {limit.burst} at once"


async def tables() -> str:
    no_record: Any = None
    rooms = Rooms(no_record)
    events = rows(rooms, Tokens(()), Expiry(rooms))
    lines = [
        "### Client to server\n",
        "| event | payload | `data` of the acknowledgement | limit |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{one.name}` | {payload(one.request)} | {one.answers} | {rate(one.limit)} |"
        for one in events
    ]
    lines += [
        "\n### REST, on `PORT`\n",
        "| request | payload | answer | limit |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{one.method} {one.path}` | {payload(one.request)} | {one.answers} | {rate(one.limit)} |"
        for one in REST
    ]
    lines += ["\n### Internal API, on `PORT`\n", "| request | payload | answer |", "|---|---|---|"]
    lines += [
        f"| `{method} {path}` | {payload(kind)} | {answers} |"
        for method, path, kind, _, _, answers in INTERNAL
    ]
    lines += ["\n### Errors\n", "| code | status | meaning |", "|---|---|---|"]
    kinds = sorted(errors.ChatError.__subclasses__(), key=lambda kind: kind.status)
    lines += [f"| `{kind.code}` | {kind.status} | {kind.__doc__} |" for kind in kinds]
    return "\n".join(lines) + "\n"


def main() -> None:
    text = asyncio.run(tables())
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    tail = rest.split(END)[1]
    current = head + BEGIN + "\n" + text + "\n" + END + tail
    match sys.argv[1:]:
        case ["--write"]:
            PAGE.write_text(current)
        case ["--check"]:
            if page != current:
                sys.exit("docs/protocol.md differs from the code: run ./scripts/protocol --write")
        case _:
            sys.stdout.write(text)


main()
