"""The base class of all responses, and the types of fields that only responses have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, fields, validate

from ..requests.schema import Id, Integer, Text, camel

LARGEST = 2**53 - 1
"""The largest integer that every JSON parser reads exactly."""


class Answer(Schema):
    """The shape of a response. Every key is always present, except those in `sometimes`. Keys are camelCase
    on the wire. Later versions may add keys, so readers ignore unknown keys.

    A class that would share its name with a class of the core has the suffix `Response`, which the API
    reference leaves out.
    """

    called: ClassVar[str] = ""
    """Text that the tables of docs/protocol.md have instead of the keys."""
    sometimes: ClassVar[frozenset[str]] = frozenset()

    class Meta:
        unknown = EXCLUDE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = camel(field_name)
        field_obj.required = field_name not in self.sometimes


class NothingResponse(Answer):
    """No keys."""


class Time(Text):
    """`2026-11-21T09:30:00.000Z`."""

    json_schema: ClassVar[Mapping[str, Any]] = {
        "format": "date-time",
        "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
    }


def number(minimum: int = 0) -> Integer:
    return Integer(minimum, LARGEST)


def one_of(*choices: str) -> Text:
    return Text(validate=validate.OneOf(choices))


def ids() -> fields.List[str]:
    return fields.List(Id())


def each(kind: type[Schema]) -> fields.List[Any]:
    return fields.List(fields.Nested(kind))


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event that the server sends. `to`: the sockets that receive it."""

    name: str
    payload: type[Answer]
    to: str = "the conversation"
