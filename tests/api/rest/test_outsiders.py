"""Outsiders learn nothing about a conversation, not even that it exists."""

from __future__ import annotations

from typing import Any

import pytest

from chatserver.api.auth import Tokens
from chatserver.api.operations.table import FOR_USERS
from chatserver.api.operations.table import INTERNAL as FOR_MASTER
from chatserver.api.sockets.client_events import client_events
from chatserver.api.sockets.token_expiry import Expiry
from chatserver.realtime.rooms.rooms import Rooms
from tests.support.people import People, Person
from tests.support.rows import ENDPOINTS, EVENTS, INTERNAL, Endpoint, Event, Scene, set_scene

INSIDE = [
    endpoint
    for endpoint in ENDPOINTS
    if "{conversationId}" in endpoint.path or "{messageId}" in endpoint.path
]
APART = ("auth:refresh", "presence:subscribe", "presence:unsubscribe")
"""They name no conversation. A stranger looks like a user who was never online."""
TOLD = [event for event in EVENTS if event.fields and event.name not in APART]


def test_the_tables_of_these_tests_have_every_endpoint_and_every_event() -> None:
    assert {endpoint.name.replace(" ", " /api") for endpoint in ENDPOINTS} == {
        f"{route.method} {route.path}" for operation in FOR_USERS if (route := operation.route)
    }
    assert {endpoint.name.replace(" ", " /api") for endpoint in INTERNAL} == {
        f"{route.method} {route.path}" for operation in FOR_MASTER if (route := operation.route)
    }
    no_record: Any = None
    rooms = Rooms(no_record)
    events = client_events(rooms, Tokens(()), Expiry(rooms), no_record)
    assert {event.name for event in EVENTS} == {*events}


async def answered(person: Person, endpoint: Endpoint, scene: Scene, **ids: str) -> Any:
    where = endpoint.at(**{**scene.ids, **ids})
    refusal = await person.refused(endpoint.method, where, endpoint.needs(scene) or name(endpoint))
    return {key: value for key, value in refusal.error.items() if key != "timestamp"}


def name(endpoint: Endpoint) -> Any:
    return {"name": "New"} if endpoint.method == "PATCH" else None


@pytest.mark.parametrize("endpoint", INSIDE, ids=lambda endpoint: endpoint.name)
async def test_an_outsider_cannot_tell_hidden_from_missing(
    people: People, endpoint: Endpoint
) -> None:
    scene = await set_scene(people)
    stranger, gone = people("stranger", "gone")
    path = f"/conversations/{scene.talk['id']}/participants"
    await scene.alice.ask("POST", path, {"userIds": [gone.id]})
    await scene.alice.ask("DELETE", f"{path}/{gone.id}")
    state = await scene.state()

    nowhere = "0" * 24
    none = {"conversationId": nowhere, "messageId": f"{nowhere}-00000001"}
    missing = await answered(stranger, endpoint, scene, **none)
    assert missing == {"code": "NOT_FOUND", "message": missing["message"]}
    for who in (stranger, gone):
        assert await answered(who, endpoint, scene) == missing
    assert await answered(scene.alice, endpoint, scene, **none) == missing
    assert await scene.state() == state


@pytest.mark.parametrize("event", TOLD, ids=lambda event: event.name)
async def test_an_outsiders_socket_cannot_tell_either(people: People, event: Event) -> None:
    scene = await set_scene(people)
    stranger, gone = people("stranger", "gone")
    path = f"/conversations/{scene.talk['id']}/participants"
    outside, was_inside = await stranger.connect(), await gone.connect()
    bobs = await scene.bob.connect()
    await scene.alice.ask("POST", path, {"userIds": [gone.id]})
    await was_inside.hears("conversation:joined")
    await scene.alice.ask("DELETE", f"{path}/{gone.id}")
    await was_inside.hears("conversation:removed")
    state = await scene.state()
    await bobs.caught_up()
    heard = list(bobs.heard)

    nowhere = {"conversationId": "0" * 24, "messageId": f"{'0' * 24}-00000001"}
    right = event.needs(scene)
    wrong = {**right, **{key: value for key, value in nowhere.items() if key in right}}
    answers = [
        await outside.refused(event.name, wrong),
        await outside.refused(event.name, right),
        await was_inside.refused(event.name, right),
    ]
    assert [answer.code for answer in answers] == ["NOT_FOUND"] * 3
    assert len({(answer.error["message"], str(answer.details)) for answer in answers}) == 1
    assert await scene.state() == state
    await bobs.caught_up()
    assert [event for event in bobs.heard[len(heard) :] if event[0] != "user:online"] == []


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_nothing_is_available_without_a_token(people: People, endpoint: Endpoint) -> None:
    scene = await set_scene(people)
    where, body = endpoint.at(**scene.ids), endpoint.needs(scene) or None
    state = await scene.state()
    for authorization in ("", "Bearer", "Bearer ", "Basic YTpi", scene.bob.token):
        headers = {"Authorization": authorization}
        for asked in (body, {"nonsense": 1}):
            status, answer = await scene.bob.request(endpoint.method, where, asked, headers=headers)
            assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert await scene.state() == state


async def test_nobody_is_mistaken_for_a_user_whose_id_ends_alike(people: People) -> None:
    """Ids may have any shape. If they contain colons, two ids could be mistaken for one."""
    alice, victim, suffix = people("alice", "tenant:victim", "x")
    suffix.id = victim.id.partition(":")[2]
    group = await alice.group(victim)
    await alice.ask("POST", f"/conversations/{group['id']}/messages", {"content": "Secret"})
    trick = {**group, "id": f"{group['id']}:tenant"}
    path = f"/conversations/{trick['id']}"
    for method, where, body in [
        ("GET", path, None),
        ("GET", f"{path}/messages", None),
        ("GET", f"{path}/unread-count", None),
        ("GET", f"{path}/presence", None),
        ("POST", f"{path}/messages", {"content": "Trick"}),
        ("PUT", f"{path}/read", None),
        ("DELETE", f"{path}/participants/{suffix.id}", None),
    ]:
        assert (await suffix.refused(method, where, body)).code == "NOT_FOUND", (method, where)
    device = await suffix.connect()
    refusal = await device.refused("message:send", {"conversationId": trick["id"], "content": "x"})
    assert refusal.code == "NOT_FOUND"
    assert (await victim.ask("GET", f"/conversations/{group['id']}/unread-count"))["count"] == 1
