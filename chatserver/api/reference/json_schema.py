"""Converts marshmallow schemas to JSON Schema, with apispec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import fields as parts
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from ...errors import ChatError
from ..requests.schema import Request
from ..responses.response import Answer
from .examples import example_of

Document = dict[str, Any]


class Shapes:
    """The schemas of one document. `components` has every schema that was requested."""

    def __init__(self) -> None:
        plugin = MarshmallowPlugin(schema_name_resolver=lambda schema: _name(schema))
        # OpenAPI 3.1 uses JSON Schema 2020-12. The features used here are also valid in draft 7.
        self._spec = APISpec("", "", "3.1.0", plugins=[plugin])
        assert plugin.converter is not None  # noqa: S101
        self._converter = plugin.converter
        self._converter.add_attribute_function(_json_schema)
        self._more: dict[str, Document] = {}

    @property
    def components(self) -> dict[str, Document]:
        made: dict[str, Document] = deepcopy(self._spec.components.schemas)
        made |= self._more
        return dict(sorted(made.items()))

    def answer(self, kind: type[Answer]) -> Document:
        """Returns a reference to the schema of a response."""
        made: Document = self._converter.resolve_nested_schema(kind)
        component = self._spec.components.schemas[_name(kind)]
        # Later versions may add keys, so the schema does not forbid them.
        component.pop("additionalProperties", None)
        if text := _text(kind):
            component["description"] = text
        return made

    def request(self, kind: type[Request], names: Iterable[str] | None = None) -> Document:
        """Returns the schema of a payload, or of only the keys in `names`."""
        made: Document = deepcopy(self._converter.schema2jsonschema(kind()))
        defaults = {field.name: field.default for field in parts(kind.makes)}
        for name, field in kind().fields.items():
            # None, 0 and an empty text only mark a missing key inside the server. They are no defaults.
            if isinstance(default := defaults.get(name), (str, int)) and default:
                made["properties"][field.data_key or name]["default"] = default
        if names is not None:
            wanted = set(names)
            made["properties"] = {k: v for k, v in made["properties"].items() if k in wanted}
            made["required"] = [key for key in made.get("required", ()) if key in wanted]
        if not made.get("required"):
            made.pop("required", None)
        return made | deepcopy(dict(kind.json_schema))

    def keep(self, name: str, schema: Document) -> Document:
        """Makes a schema a component, and returns a reference to it."""
        if self._more.setdefault(name, schema) != schema:
            raise ValueError(f"Two different schemas are called {name}.")
        return {"$ref": f"#/components/schemas/{name}"}

    def error(self, kind: type[ChatError]) -> Document:
        """Returns a reference to the schema of an error."""
        schema: Document = {
            "type": "object",
            "description": kind.__doc__,
            "properties": {
                "code": {"type": "string", "const": kind.code},
                "message": {"type": "string"},
                "timestamp": {"type": "string", "format": "date-time"},
            },
            "required": ["code", "message", "timestamp"],
        }
        if kind.json_schema:
            schema["properties"]["details"] = deepcopy(dict(kind.json_schema))
            if kind.explains:
                schema["required"].append("details")
        return self.keep(kind.__name__, schema)

    def json(self, schema: Document, example: Any = None) -> Document:
        """Returns a body with this schema and an example."""
        shown = self.example(schema) if example is None else example
        return {"application/json": {"schema": schema, "example": shown}}

    def example(self, schema: Mapping[str, Any], name: str = "", owner: str = "") -> Any:
        return example_of(schema, self.components, name, owner)


def _name(schema: Any) -> str:
    """Returns the name of a component: the class's name without the suffix `Schema` or `Response`."""
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema").removesuffix("Response")


def _text(kind: type[Schema]) -> str:
    """Returns the class's own docstring in one line; empty if it has none."""
    return " ".join((kind.__dict__.get("__doc__") or "").split())


def _json_schema(_: OpenAPIConverter, field: fields.Field[Any], **__: Any) -> dict[str, Any]:
    """Returns the JSON Schema of a field's type, including null if the field allows it."""
    schema = dict(getattr(field, "json_schema", {}))
    if field.allow_none and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema
