"""JSON Schema in words: a table of keys and their types."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .html import Markup, joined, prose, tag

Schema = Mapping[str, Any]
_OPTIONAL = joined(" ", tag("small", "optional"))


def example(value: Any) -> Markup:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # A wide example scrolls sideways, so the keyboard must be able to focus it.
    return tag("pre", tag("code", text), tabindex="0")


def keys(schema: Schema) -> Markup:
    """Returns a table with a row per key of an object. For any other schema, returns its type."""
    if not schema.get("properties"):
        return tag("p", kind(schema))
    required = schema.get("required", ())
    rows = [
        tag(
            "tr",
            tag("th", tag("code", key), None if key in required else _OPTIONAL, scope="row"),
            tag("td", kind(inner)),
            tag("td", prose(_about(inner))),
        )
        for key, inner in schema["properties"].items()
    ]
    head = tag("tr", *(tag("th", title, scope="col") for title in ("key", "value", "about")))
    return joined(
        tag("table", tag("thead", head), tag("tbody", rows)),
        tag("p", prose(rule)) if (rule := _rule(schema)) else None,
    )


def kind(schema: Schema) -> Markup:
    """Returns the type of a schema, in a few words."""
    if ref := schema.get("$ref"):
        name = ref.rpartition("/")[2]
        return tag("a", name, href=f"#shape-{name}")
    for key in ("oneOf", "anyOf"):
        if key in schema and "properties" not in schema:
            return _either(schema[key])
    if "const" in schema:
        return tag("code", json.dumps(schema["const"]))
    if "enum" in schema:
        return joined(
            *(
                joined(" or " if n else None, tag("code", json.dumps(value)))
                for n, value in enumerate(schema["enum"])
            )
        )
    types = schema.get("type", "any")
    names = [types] if isinstance(types, str) else list(types)
    return (
        _either([{**schema, "type": type_name} for type_name in names])
        if names[1:]
        else _one(names[0], schema)
    )


def _either(choices: list[Schema]) -> Markup:
    return joined(
        *(joined(" or " if n else None, kind(choice)) for n, choice in enumerate(choices))
    )


def _one(name: str, schema: Schema) -> Markup:
    match name:
        case "array":
            size = _bounds(schema, "Items").strip()
            return joined("list of ", f"{size}: " if size else None, kind(schema["items"]))
        case "string" if schema.get("format") == "date-time":
            return joined("time")
        case "string":
            size = _bounds(schema, "Length")
            return joined("text", f" of{size} characters" if size else None)
        case "object" if schema.get("properties"):
            inside = ", ".join(schema["properties"])
            return tag("code", f"{{{inside}}}")
        case "integer" | "number":
            minimum, maximum = schema.get("minimum"), schema.get("maximum")
            shown = "2^53" if maximum == 2**53 - 1 else maximum
            return joined(name, None if maximum is None else f" {minimum}..{shown}")
    return joined(name)


def _bounds(schema: Schema, what: str) -> str:
    minimum, maximum = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    return "" if maximum is None else f" {minimum}..{maximum}"


def _about(schema: Schema) -> str:
    """The description, and the default."""
    default = f" Default: `{schema['default']}`." if "default" in schema else ""
    return str(schema.get("description", "")) + default


def _rule(schema: Schema) -> str:
    if "then" in schema:  # requests.schema.one_at_least
        choices = [*schema["if"]["not"]["anyOf"], schema["then"]]
        return f"Give at least one of {_names(choices)}."
    if "oneOf" in schema:
        return f"Give exactly one of {_names(schema['oneOf'])}."
    return "Give at least one." if schema.get("minProperties") else ""


def _names(choices: Sequence[Schema]) -> str:
    return ", ".join(f"`{name}`" for choice in choices for name in choice["required"])
