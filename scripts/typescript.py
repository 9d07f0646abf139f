"""Generates the protocol as a TypeScript module, from the AsyncAPI document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatserver import errors
from chatserver.api.reference.asyncapi import asyncapi

MODULE = Path(__file__).parent.parent / "clients" / "js" / "src" / "protocol.ts"

NAMED = ("Attachment", "Message", "Conversation", "Participant")
"""Shapes with a name in TypeScript. Other shapes are written out where they are used."""

Schema = dict[str, Any]


def module() -> str:
    document = asyncapi()
    shapes, messages = document["components"]["schemas"], document["components"]["messages"]

    def rows(kind: str) -> list[str]:
        of_kind = [key for key in messages if key.startswith(f"{kind}.")]
        return [f'  "{name(key)}": {of(payload(key))};' for key in of_kind]

    def name(key: str) -> str:
        return messages[f"send{key.removeprefix('ack')}" if key.startswith("ack.") else key]["name"]

    def payload(key: str) -> Schema:
        whole: Schema = messages[key]["payload"]
        return whole["oneOf"][0]["properties"]["data"] if key.startswith("ack.") else whole

    def of(schema: Schema) -> str:
        if ref := schema.get("$ref"):
            shape = ref.rpartition("/")[2]
            if shape == "Failed":
                return "ErrorShape"
            return shape if shape in NAMED else of(shapes[shape])
        if choices := schema.get("anyOf"):
            return " | ".join(map(of, choices))
        if "enum" in schema:
            return " | ".join(map(json.dumps, schema["enum"]))
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return " | ".join(typed(kind, schema) for kind in kinds)

    def typed(kind: str, schema: Schema) -> str:
        match kind:
            case "integer" | "number":
                return "number"
            case "array":
                inner = of(schema["items"])
                bare = inner.startswith("{") or " | " not in inner
                return f"readonly {inner}[]" if bare else f"readonly ({inner})[]"
            case "object" if "properties" in schema:
                parts = keys(schema)
                return "{ " + "; ".join(parts) + " }" if parts else "Record<string, never>"
            case "object":
                return "Metadata" if schema.get("additionalProperties") else DETAILS
        return kind

    def keys(schema: Schema) -> list[str]:
        required = schema.get("required", ())
        return [
            f"readonly {key}{'' if key in required else '?'}: {of(value)}"
            for key, value in schema["properties"].items()
        ]

    def interface(title: str, schema: Schema) -> str:
        return "\n".join(
            [f"export interface {title} {{", *(f"  {key};" for key in keys(schema)), "}\n"]
        )

    codes = sorted(kind.code for kind in errors.ChatError.__subclasses__())
    return "\n".join(
        [
            "// Written by ./scripts/protocol --write: change the rows of the server, not this file.\n",
            "export type Metadata = Readonly<Record<string, string | number | boolean | null>>;\n",
            *(interface(shape, shapes[shape]) for shape in NAMED),
            "export type ErrorCode =",
            "\n".join(f'  | "{code}"' for code in codes) + ";\n",
            interface("ErrorShape", shapes["Failed"]).replace("code: string", "code: ErrorCode"),
            "/** Payloads of the events that a client can send. */\nexport interface Requests {",
            *rows("send"),
            "}\n",
            "/** The `data` of the acknowledgements. */\nexport interface Answers {",
            *rows("ack"),
            "}\n",
            "/** Payloads of the events that the server sends. */\nexport interface ServerEvents {",
            *rows("hear"),
            "}\n",
        ]
    )


DETAILS = "Readonly<Record<string, unknown>>"
