"""The REST and internal API against their OpenAPI document: schemathesis sends a real server requests that the
document allows, and requests that it does not."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from chatserver.api.reference.openapi import openapi
from tests.conftest import Starter
from tests.support.people import People
from tests.support.rows import set_scene
from tests.support.servers import INTERNAL_SECRET, ChatServer

EXAMPLES = 15
"""Per operation and way of generating them, in addition to the edge cases of each schema."""
# Without unsupported_method and allow_header_conformance, which require 405, and for /conversations/private an
# Allow without the methods of /conversations/{conversationId}. The API has other codes and statuses. Without
# positive_data_acceptance: the schemas cannot express what a single emoji is, or that `before` and `after`
# exclude each other.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
)
CONFIG = """
seed = 20261121
base-url = "{rest}"
warnings = false

[cache]
enabled = false

[generation]
database = "none"

[dictionaries]
talks = {{ values = ["{talk}"] }}
messages = {{ values = ["{message}"] }}
people = {{ values = {people} }}
strangers = {{ values = ["{stranger}"] }}
other_talks = {{ values = ["{other}"] }}

[parameters]
conversationId = {{ dictionary = "talks", probability = 0.8 }}
messageId = {{ dictionary = "messages", probability = 0.8 }}
userId = {{ dictionary = "people", probability = 0.5 }}
externalUserId = {{ dictionary = "strangers", probability = 0.5 }}

# Otherwise the scene's conversation is deleted, and no further request can succeed.
[[operations]]
include-operation-id = "conversations_delete"
parameters = {{ conversationId = {{ dictionary = "other_talks", probability = 0.8 }} }}

[auth.openapi.token]
bearer = "{token}"

[auth.openapi.secret]
api_key = "{secret}"

[auth.openapi.user]
api_key = "{alice}"
"""


async def test_every_response_is_as_the_document_says(
    start: Starter, people_of: Callable[[ChatServer], People], tmp_path: Path
) -> None:
    server = await start()
    people = people_of(server)
    scene = await set_scene(people)
    others, stranger = people("carol", "dan", "erin", "frank"), people("grace")
    await scene.alice.ask(
        "POST",
        f"/conversations/{scene.talk['id']}/participants",
        {"userIds": [person.id for person in others]},
    )
    other = await scene.alice.group(scene.bob)
    config, told = tmp_path / "schemathesis.toml", tmp_path / "told.json"
    config.write_text(
        CONFIG.format(
            rest=server.rest,
            talk=scene.talk["id"],
            other=other["id"],
            message=scene.message["id"],
            alice=scene.alice.id,
            people=json.dumps([person.id for person in (scene.bob, *others)]),
            stranger=stranger.id,
            token=scene.alice.token,
            secret=INTERNAL_SECRET,
        )
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", f"{server.rest}/docs/openapi.json", "--checks", ",".join(CHECKS)),
        *("--max-examples", str(EXAMPLES), "--report-json-path", str(told)),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    tried = json.loads(told.read_text())
    operations = sum(len(methods) for methods in openapi()["paths"].values())
    assert tried["complete"]
    assert tried["operations"]["tested"] == operations
    assert {
        phase: outcome["status"] for phase, outcome in tried["phases"].items()
    } == dict.fromkeys(("examples", "coverage", "fuzzing", "stateful"), "success")
    assert tried["test_cases"]["generated"] > 1500
    # Every operation but one can succeed: no events are left of an endpoint that is no longer configured.
    answered = await done(people)
    assert len(answered) > 28, answered


async def done(people: People) -> set[str]:
    """Returns the routes that have succeeded at least once."""
    async with people.session.get(f"{people.server.rest}/metrics") as answer:
        text = await answer.text()
    told = r'chat_requests_total\{code="OK",door="(?:rest|internal)",name="([^"]+)"'
    return set(re.findall(told, text))
