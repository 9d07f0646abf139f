"""The API's documents are valid, complete, served in the right places, and correct."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

import aiohttp
import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from referencing.exceptions import PointerToNowhere

from chatserver.api.reference.asyncapi import asyncapi
from chatserver.api.reference.openapi import openapi
from chatserver.api.responses.webhooks import DATA
from chatserver.api.sockets.server_events import SERVER_EVENTS
from chatserver.outbox.event import TYPES
from tests.conftest import Starter
from tests.support.documented import Document
from tests.support.people import People
from tests.support.people_on_nodes import Spread
from tests.support.servers import INTERNAL_SECRET, JWT_SECRET, ROOT, WEBHOOK_SECRET, ChatServer

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PAGES = ("/docs", "/docs/events")
PRODUCTION = {
    "ENV": "production",
    "AUTH_JWT_SECRET": JWT_SECRET,
    "INTERNAL_API_SECRET": INTERNAL_SECRET,
    "WEBHOOK_SECRET": WEBHOOK_SECRET,
}


async def get(server: ChatServer, path: str) -> tuple[int, aiohttp.typedefs.LooseHeaders, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.rest + path) as answer,
    ):
        return answer.status, answer.headers, await answer.text()


def test_the_openapi_document_is_valid() -> None:
    document = openapi()
    validate(document, cls=OpenAPIV31SpecValidator)
    for methods in (document["paths"] | document["webhooks"]).values():
        for operation in methods.values():
            kinds = {kind for way in operation["security"] for kind in way}
            assert kinds <= set(document["components"]["securitySchemes"])
            assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}


@pytest.mark.parametrize("make", [openapi, asyncapi])
def test_every_schema_is_valid_json_schema_2020_12(make: Any) -> None:
    # The validators skip some schemas, for example those of OpenAPI's headers and webhooks.
    found = list(schemas(make()))
    assert len(found) > 50
    for path, schema in found:
        assert jsonschema_rs.meta.is_valid({**schema, "$schema": DIALECT}), path


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("components", "schemas", "Message", "properties", "seq"), "type", "whole number"),
        (("components", "schemas", "Message", "properties", "seq"), "$ref", "#/nowhere"),
        (("components", "responses", "Conflict"), "description", None),
        (("paths", "/api/messages/{messageId}", "get"), "operationId", "messages_delete"),
        (("paths", "/api/messages/{messageId}", "get"), "parameters", []),
    ],
)
def test_an_error_in_a_document_is_found(path: tuple[str, ...], key: str, value: Any) -> None:
    document = openapi()
    reduce(getitem, path, document)[key] = value
    with pytest.raises((OpenAPIValidationError, PointerToNowhere)):
        validate(document, cls=OpenAPIV31SpecValidator)


async def test_the_asyncapi_document_is_valid_for_its_own_parser() -> None:
    broken = asyncapi()
    broken["operations"]["send.ping"]["action"] = "shout"
    process = await asyncio.create_subprocess_exec(
        "node",
        "tests/js/asyncapi.mjs",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(json.dumps([asyncapi(), broken]).encode())
    assert process.returncode == 0
    of_ours, of_the_broken = json.loads(output)
    assert of_ours == []
    assert "operations.send.ping.action" in of_the_broken[0]


def schemas(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields all schemas in a document, with their paths."""
    below = enumerate(node) if isinstance(node, list) else node.items()
    for key, inner in below:
        if key in ("schema", "payload") or path == "/components/schemas":
            yield f"{path}/{key}", inner
        if isinstance(inner, dict | list) and key not in ("example", "examples"):
            yield from schemas(inner, f"{path}/{key}")


@pytest.mark.parametrize("make", [openapi, asyncapi])
def test_every_example_conforms_to_its_schema(make: Any) -> None:
    document = make()
    checked = list(examples(document))
    assert len(checked) > 50
    judge = Document(document)
    for name, schema, example in checked:
        judge.check(name, schema, example)


def examples(node: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(node, list):
        for n, item in enumerate(node):
            yield from examples(item, f"{path}/{n}")
    elif isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield path, node["schema"], node["example"]
        if "payload" in node and "examples" in node:
            for example in node["examples"]:
                yield path, node["payload"], example["payload"]
        for key, value in node.items():
            yield from examples(value, f"{path}/{key}")


def test_each_type_of_webhook_has_its_data_described() -> None:
    assert set(DATA) == set(TYPES) == set(openapi()["webhooks"])


async def test_the_served_documents_are_those_in_the_repository(nodes: Spread) -> None:
    for name in ("openapi.json", "asyncapi.json"):
        status, headers, text = await get(nodes.servers[0], f"/docs/{name}")
        assert status == 200
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert json.loads(text) == json.loads((ROOT / "docs" / name).read_text())


async def test_the_pages_show_everything_and_load_nothing_from_elsewhere(nodes: Spread) -> None:
    texts = []
    for path in (*PAGES, "/docs/page.css"):
        status, headers, text = await get(nodes.servers[0], path)
        assert status == 200
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self';")
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "<script" not in text
        assert "style=" not in text
        assert "url(" not in text
        assert "@import" not in text
        texts.append(text)
    rest, events, _ = texts
    for path, methods in openapi()["paths"].items():
        assert f"<code>{path}</code>" in rest
        assert all(f'id="{operation["operationId"]}"' in rest for operation in methods.values())
    for key in asyncapi()["operations"]:
        assert f'id="{key}"' in events
    for page in (rest, events):
        anchors = {link.partition('"')[0] for link in page.split(' href="#')[1:]}
        assert [anchor for anchor in anchors if f' id="{anchor}"' not in page] == []


async def test_production_serves_no_documents_unless_told_to(start: Starter) -> None:
    quiet = await start(**PRODUCTION)
    assert [(await get(quiet, path))[0] for path in PAGES] == [404, 404]
    open_ = await start(**PRODUCTION, DOCS="on")
    assert [(await get(open_, path))[0] for path in PAGES] == [200, 200]


async def test_every_event_of_the_table_is_sent_when_everything_happens(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    phone, laptop, tablet = await alice.connect(), await bob.connect(), await carol.connect()
    talk = await alice.group(bob)
    of_talk = {"conversationId": talk["id"]}
    await laptop.hears("conversation:new")
    message = await phone.say(talk, "Lunch?")
    of_message = {"messageId": message["id"]}
    await phone.do("message:edit", {**of_message, "content": "Lunch at one?"})
    await laptop.do("reaction:add", {**of_message, "emoji": "👍"})
    await laptop.do("reaction:remove", {**of_message, "emoji": "👍"})
    await laptop.do("message:read", of_message)
    await phone.say(talk, "Or at two?")
    await laptop.do("conversation:read", of_talk)
    await laptop.do("typing:start", of_talk)
    await laptop.do("recording:start", of_talk)
    await phone.do("message:delete", of_message)
    path = f"/conversations/{talk['id']}"
    await alice.ask("PATCH", path, {"name": "Lunch"})
    await alice.ask("POST", f"{path}/participants", {"userIds": [carol.id]})
    await tablet.hears("conversation:joined")
    await alice.ask("DELETE", f"{path}/participants/{carol.id}")
    await tablet.hears("conversation:removed")
    for event in ("ping", "messages:sync", "message:unsend"):
        await phone.client.emit(event, {} if event == "ping" else {**of_talk, "afterRev": 0})
    await phone.hears("error")
    await laptop.close()
    await phone.hears("user:offline")
    await bob.connect()
    await phone.hears("user:online")
    crowd = [f"{alice.id}-{n}" for n in range(200)]
    await alice.ask("POST", f"{path}/participants", {"userIds": crowd})
    await phone.hears("participants:changed")

    heard = {event for device in (phone, laptop, tablet) for event, _ in device.heard}
    assert heard == {row.name for row in SERVER_EVENTS}
