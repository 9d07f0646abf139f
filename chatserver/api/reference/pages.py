"""Two pages for people, of the two documents: no script, no font and no picture from anywhere."""

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
    for one in document["tags"]:
        of_it = [row for row in operations if one["name"] in row[2]["tags"]]
        names = [
            (row[2]["operationId"], _heading(row[0], row[1].removeprefix("/api"), path))
            for row in of_it
        ]
        groups.append((one["name"], one["description"], names))
        body.append(group(groups[-1], (_operation(*row, components) for row in of_it)))
    security = components["securitySchemes"].values()
    auth = [
        tag("p", prose(f"`{one.get('name', 'Authorization: Bearer')}`: {one['description']}"))
        for one in security
    ]
    body.append(_shapes(components["schemas"]))
    intro = joined(paragraphs(document["info"]["description"]), auth)
    return page("REST and webhooks", document, intro, [*groups, SHAPES], body)


def events_page(document: Document) -> str:
    messages = document["components"]["messages"]
    sent: list[tuple[str, Document]] = []
    heard: list[tuple[str, Document]] = []
    for key, operation in document["operations"].items():
        (sent if operation["action"] == "receive" else heard).append((key, operation))
    groups: list[Group] = [
        (
            "client to server",
            "What a client sends, and how it is acknowledged.",
            [(key, one["title"]) for key, one in sent],
        ),
        (
            "server to client",
            "What sockets hear.",
            [(key, one["title"]) for key, one in heard],
        ),
    ]
    body = [
        group(groups[0], (_sending(key, one, document) for key, one in sent)),
        group(groups[1], (_hearing(key, one, messages[key]) for key, one in heard)),
        _shapes(document["components"]["schemas"]),
    ]
    intro = paragraphs(document["info"]["description"])
    return page("Events", document, intro, [*groups, SHAPES], body)


# --- what is on them ----------------------------------------------------------------------------


def _operation(method: str, path: str, one: Document, components: Document) -> Markup:
    """An endpoint, or a webhook."""
    # What all of them have in common is a reference: the page says it once, at its beginning.
    parameters = [each for each in one.get("parameters", ()) if "$ref" not in each]
    schema = {
        "properties": {
            each["name"]: {**each["schema"], "description": _where(each)} for each in parameters
        },
        "required": [each["name"] for each in parameters if each.get("required")],
    }
    body = one.get("requestBody")
    return section(
        one["operationId"],
        _heading(method, path),
        tag("p", prose(one["summary"])),
        tag("p", prose(_who(one["security"]) + one.get("description", ""))),
        [tag("h4", "Parameters"), keys(schema)] if parameters else None,
        _body(body, components) if body else None,
        tag("h4", "Answers"),
        (_response(status, answer, components) for status, answer in one["responses"].items()),
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


def _sending(key: str, one: Document, document: Document) -> Markup:
    messages = document["components"]["messages"]
    payload, answer = messages[key], messages["ack" + key.removeprefix("send")]
    yes, no = answer["payload"]["oneOf"]
    return section(
        key,
        tag("code", one["title"]),
        tag("p", prose(one["summary"])),
        tag("p", prose(one["description"])),
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


def _hearing(key: str, one: Document, message: Document) -> Markup:
    return section(
        key,
        tag("code", one["title"]),
        tag("p", prose(one["summary"])),
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
