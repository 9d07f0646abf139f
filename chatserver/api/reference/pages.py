"""The two documents as HTML pages, without scripts, fonts or images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from .html import Markup, code, joined, paragraphs, path, prose, tag
from .json_schema import Document
from .page_layout import SHAPES, Group, group, page, section
from .tables import example, keys, kind


def rest_page(document: Document) -> str:
    groups: list[Group] = []
    body: list[Markup] = []
    components = document["components"]
    operations = [
        (method, path, operation)
        for path, methods in (document["paths"] | document["webhooks"]).items()
        for method, operation in methods.items()
    ]
    for topic in document["tags"]:
        rows = [row for row in operations if topic["name"] in row[2]["tags"]]
        names = [
            (row[2]["operationId"], _heading(row[0], row[1].removeprefix("/api"), path))
            for row in rows
        ]
        groups.append((topic["name"], topic["description"], names))
        body.append(group(groups[-1], (_operation(*row, components) for row in rows)))
    security = components["securitySchemes"].values()
    auth = [
        tag("p", prose(f"`{scheme.get('name', 'Authorization: Bearer')}`: {scheme['description']}"))
        for scheme in security
    ]
    body.append(_shapes(components["schemas"]))
    intro = joined(paragraphs(document["info"]["description"]), auth)
    return page("REST and webhooks", document, intro, [*groups, SHAPES], body)


def events_page(document: Document) -> str:
    messages = document["components"]["messages"]
    sent: list[tuple[str, Document]] = []
    received: list[tuple[str, Document]] = []
    for key, operation in document["operations"].items():
        (sent if operation["action"] == "receive" else received).append((key, operation))
    groups: list[Group] = [
        (
            "client to server",
            "Events that a client sends, and their acknowledgements.",
            [(key, operation["title"]) for key, operation in sent],
        ),
        (
            "server to client",
            "Events that sockets receive.",
            [(key, operation["title"]) for key, operation in received],
        ),
    ]
    body = [
        group(groups[0], (_sending(key, operation, document) for key, operation in sent)),
        group(groups[1], (_hearing(key, operation, messages[key]) for key, operation in received)),
        _shapes(document["components"]["schemas"]),
    ]
    intro = paragraphs(document["info"]["description"])
    return page("Events", document, intro, [*groups, SHAPES], body)


# --- sections -----------------------------------------------------------------------------------


def _operation(method: str, path: str, operation: Document, components: Document) -> Markup:
    """An endpoint, or a webhook."""
    # Parameters that all operations share are references. The introduction of the page describes them.
    parameters = [each for each in operation.get("parameters", ()) if "$ref" not in each]
    schema = {
        "properties": {
            each["name"]: {**each["schema"], "description": _where(each)} for each in parameters
        },
        "required": [each["name"] for each in parameters if each.get("required")],
    }
    body = operation.get("requestBody")
    return section(
        operation["operationId"],
        _heading(method, path),
        tag("p", prose(operation["summary"])),
        tag("p", prose(_who(operation["security"]) + operation.get("description", ""))),
        [tag("h4", "Parameters"), keys(schema)] if parameters else None,
        _body(body, components) if body else None,
        tag("h4", "Responses"),
        (
            _response(status, answer, components)
            for status, answer in operation["responses"].items()
        ),
    )


def _where(parameter: Document) -> str:
    places = {"path": "In the path.", "query": "In the query.", "header": "A header."}
    return f"{places[parameter['in']]} {parameter.get('description', '')}".strip()


def _who(security: Sequence[Mapping[str, Any]]) -> str:
    if {"token": []} in security:
        return "For users. "
    return "With `X-Internal-Secret`. " if security else ""


def _body(body: Document, components: Document) -> Markup:
    media = body["content"]["application/json"]
    title = tag("h4", "Body ", tag("small", body.get("description", "")))
    return joined(title, keys(_resolved(media["schema"], components)), example(media["example"]))


def _response(status: str, answer: Document, components: Document) -> Markup:
    if ref := answer.get("$ref"):
        answer = components["responses"][ref.rpartition("/")[2]]
    phrase = HTTPStatus(int(status)).phrase if status.isdecimal() else ""
    content = answer.get("content", {}).get("application/json")
    summary = joined(tag("b", status), f" {phrase}".rstrip(), ": ", prose(answer["description"]))
    if content is None:
        return tag("p", summary)
    schema = content["schema"]["properties"]["error"] if ref else content["schema"]
    return tag(
        "details", tag("summary", summary), tag("p", kind(schema)), example(content["example"])
    )


def _sending(key: str, operation: Document, document: Document) -> Markup:
    messages = document["components"]["messages"]
    payload, answer = messages[key], messages["ack" + key.removeprefix("send")]
    yes, no = answer["payload"]["oneOf"]
    return section(
        key,
        tag("code", operation["title"]),
        tag("p", prose(operation["summary"])),
        tag("p", prose(operation["description"])),
        tag("h4", "Payload"),
        keys(_resolved(payload["payload"], document["components"])),
        example(payload["examples"][0]["payload"]),
        tag("h4", "Acknowledgement"),
        tag(
            "p", prose("`{ok: true, data}`, where `data` is "), kind(yes["properties"]["data"]), "."
        ),
        tag("p", prose("Or `{ok: false, error}`: "), kind(no["properties"]["error"]), "."),
        tag("details", tag("summary", "An example"), example(answer["examples"][0]["payload"])),
    )


def _hearing(key: str, operation: Document, message: Document) -> Markup:
    return section(
        key,
        tag("code", operation["title"]),
        tag("p", prose(operation["summary"])),
        tag("p", "Payload: ", kind(message["payload"])),
        example(message["examples"][0]["payload"]),
    )


def _shapes(schemas: Document) -> Markup:
    made = [
        section(
            f"shape-{name}",
            name,
            tag("p", prose(schema["description"])) if "description" in schema else None,
            keys(schema),
        )
        for name, schema in schemas.items()
    ]
    return group(SHAPES, made)


def _resolved(schema: Document, components: Document) -> Document:
    ref = schema.get("$ref")
    found: Document = components["schemas"][ref.rpartition("/")[2]] if ref else schema
    return found


def _heading(method: str, name: str, path: Callable[[str], Markup] = code) -> Markup:
    if not name.startswith("/"):
        return code(name)
    return joined(tag("b", method.upper(), class_=method), " ", path(name))
