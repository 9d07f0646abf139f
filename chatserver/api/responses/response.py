"""A shape of what callers are told, and the kinds of fields that only answers have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, fields, validate

from ..requests.fields import Id, Integer, Text
from ..requests.parse import camel

LARGEST = 2**53 - 1
"""The largest whole number that every reader of JSON gets exactly."""


class Answer(Schema):
    """Every key is always there, but those in `sometimes`. Keys are camelCase on the wire. More keys
    may come with a later version: who reads an answer ignores what it does not know.

    A class that would share its name with one of the core ends in `Response`. The documents of the API
    name it without that ending."""

    called: ClassVar[str] = ""
    """What the tables say instead of all the keys."""
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
