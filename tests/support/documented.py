"""Compares everything that a server sends with the documents of the API. Any difference is a fault.

The documents allow keys that a later version may add. Here only the documented keys are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import jsonschema_rs

from chatserver.api.reference.asyncapi import asyncapi
from chatserver.api.reference.openapi import openapi

faults: list[str] = []
"""Faults found where an exception would be lost. The test fails with them at its end."""

_lacking_allowed = False


@contextmanager
def by_an_earlier_version() -> Iterator[None]:
    """Answers may lack keys that the version which sends them did not have."""
    global _lacking_allowed
    _lacking_allowed = True
    try:
        yield
    finally:
        _lacking_allowed = False


class Document:
    def __init__(self, document: dict[str, Any]) -> None:
        self.whole = closed(document)
        self._validators: dict[str, jsonschema_rs.Validator] = {}

    def check(self, name: str, schema: dict[str, Any], value: Any) -> None:
        """Raises AssertionError unless the value conforms to this schema. `name` is unique to the schema."""
        if name not in self._validators:
            self._validators[name] = jsonschema_rs.Draft202012Validator(
                {**schema, "components": self.whole["components"]}, validate_formats=True
            )
        for error in self._validators[name].iter_errors(value):
            if _lacking_allowed and error.message.endswith(" is a required property"):
                continue
            raise AssertionError(f"{name}: {error.message} at {error.instance_path} in {value}")


def closed(schema: Any) -> Any:
    """Returns the schema with only the named keys allowed in objects."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(inner) for key, inner in schema.items()}
    if made.get("type") == "object" and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


@cache
def rest() -> Document:
    return Document(openapi())


@cache
def sockets() -> Document:
    return Document(asyncapi())


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Returns the paths of the API, with those without parameters first."""
    paths = sorted(rest().whole["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in paths]


def answer(
    method: str, path: str, status: int, headers: Mapping[str, str], body: Any = None
) -> None:
    """Checks the response to a request to `path`, as it was sent. Raises AssertionError."""
    methods: dict[str, Any] = rest().whole["paths"]
    for pattern, name in _paths():
        if pattern.fullmatch(path) and method.lower() in methods[name]:
            break
    else:
        assert status == 404, f"{status} to {method} {path}, which is in no document"
        return
    responses = methods[name][method.lower()]["responses"]
    assert str(status) in responses, f"{method} {name} may not answer {status}: {body}"
    response = responses[str(status)]
    if ref := response.get("$ref"):
        response = rest().whole["components"]["responses"][ref.rpartition("/")[2]]
    if "content" not in response:
        assert body is None, f"{method} {name} answers {status} with {body}"
        return
    assert headers["Content-Type"].partition(";")[0] == "application/json"
    for header in response.get("headers", {}):
        assert header in headers, f"{method} {name} answers {status} without {header}"
    rest().check(
        f"{method} {name} {status}", response["content"]["application/json"]["schema"], body
    )


def heard(event: str, payload: Any) -> None:
    """Records a fault unless a socket may receive this event. Events `client:…` are not the server's: the
    JavaScript client reports its own state with them (browsers.py)."""
    if not event.startswith("client:"):
        _note(f"hear.{event}", payload)


def acknowledged(event: str, said: Any) -> None:
    """Records a fault unless this event may be acknowledged like this. Unknown events must be refused."""
    if f"ack.{event.replace(':', '.')}" in sockets().whole["components"]["messages"]:
        _note(f"ack.{event}", said)
    elif said["ok"]:
        faults.append(f"{event} is in no document, and was done")
    else:
        _note("ack.ping", said)


def _note(name: str, payload: Any) -> None:
    key = name.replace(":", ".")
    try:
        messages = sockets().whole["components"]["messages"]
        assert key in messages, f"{name} is in no document"
        sockets().check(key, messages[key]["payload"], payload)
    except AssertionError as error:
        faults.append(str(error))


def posted(event: dict[str, Any]) -> None:
    """Checks the body of a webhook. Raises AssertionError."""
    name = "Event" + "".join(map(str.title, event["type"].split(".")))
    rest().check(name, rest().whole["components"]["schemas"][name], event)
