"""The operator inspects the backlog, and drops what is stored for a removed endpoint."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chatserver.clock import iso, now
from chatserver.outbox.endpoints import slot_of
from chatserver.outbox.pending import ordering_key_of
from tests.support.endpoints_without_relay import Opener, talk_of
from tests.support.people import People, ask
from tests.support.shapes import A_TIME


async def test_nothing_is_pending_at_first(idle_outbox: Opener, crm: dict[str, str]) -> None:
    outbox = await idle_outbox(**crm)
    port = outbox.server.env["WEBHOOK_URL"].partition("127.0.0.1:")[2].partition("/")[0]
    quiet = {"pending": 0, "oldestPendingAt": None, "lag": 0.0, "failing": 0, "dead": 0}
    status = await outbox.status()
    default, other = status["endpoints"]
    assert len(default.pop("types")) == 11
    url = f"http://127.0.0.1:{port}/hooks"
    shape = {"configured": True, "worst": [], **quiet}
    assert default == {"name": "default", "url": url, **shape}
    assert other == {
        "name": "crm",
        "url": "http://10.0.0.7/chat",
        "types": ["message.created"],
        **shape,
    }
    assert (status["countedUpTo"], status["relays"]) == (100_000, [])


async def test_events_are_pending_for_the_endpoints_of_their_type(
    idle_outbox: Opener, crm: dict[str, str]
) -> None:
    outbox = await idle_outbox(**crm)
    alice, talk, said = await talk_of(outbox, "One", "Two")
    await alice.ask("PATCH", f"/messages/{said[0]['id']}", {"content": "1"})
    await alice.ask("DELETE", f"/messages/{said[1]['id']}?scope=self")
    await alice.ask("POST", f"/messages/{said[0]['id']}/reactions", {"emoji": "👍"})
    default, other = (await outbox.status())["endpoints"]
    # The conversation, two messages, an edit, a reaction. Hiding a message is no event.
    assert (default["pending"], other["pending"]) == (5, 2)
    assert default["oldestPendingAt"] == talk["createdAt"]
    assert other["oldestPendingAt"] == said[0]["createdAt"]
    assert 0 < other["lag"] <= default["lag"] < 30
    await outbox.deliver("crm")
    default, other = (await outbox.status())["endpoints"]
    assert (default["pending"], other["pending"], other["oldestPendingAt"]) == (5, 0, None)


async def test_a_failing_key_is_shown_with_its_reason(idle_outbox: Opener) -> None:
    outbox = await idle_outbox()
    heads = []
    for _ in range(7):
        _, talk, _ = await talk_of(outbox)
        heads.append(talk)
    by_key = {ordering_key_of(pending.id): pending for pending in await outbox.pending("default")}
    for number, talk in enumerate(heads):
        await outbox.back_off("default", by_key[talk["id"]], f"answered 50{number}")
    shown = await outbox.endpoint("default")
    assert (shown["failing"], len(shown["worst"])) == (7, 5)
    first = shown["worst"][0]
    assert first == {
        "key": heads[0]["id"],
        "eventId": f"evt_{by_key[heads[0]['id']].id}",
        "timestamp": heads[0]["createdAt"],
        "since": A_TIME,
        "attempts": 3,
        "nextAt": A_TIME,
        "error": "answered 500",
    }


async def test_only_live_relays_are_shown(idle_outbox: Opener) -> None:
    outbox = await idle_outbox()
    soon = now() + timedelta(seconds=60)
    await outbox.mongo.relays.insert_many(
        [
            {"_id": "here", "until": soon},
            {"_id": "gone", "until": now() - timedelta(seconds=1)},
            *({"_id": f"p{n:02d}", "owner": "here"} for n in range(9)),
            *({"_id": f"p{n:02d}", "owner": "gone"} for n in range(9, 16)),
            {"_id": "bell", "rings": 3},
        ]
    )
    relays = (await outbox.status())["relays"]
    assert relays == [{"id": "here", "partitions": 9, "until": iso(soon)}]


async def test_an_endpoint_that_is_no_longer_configured_can_be_forgotten(
    idle_outbox: Opener, crm: dict[str, str]
) -> None:
    outbox = await idle_outbox(**crm)
    await talk_of(outbox, "One", "Two", "Three")
    pending = await outbox.pending("crm")
    await outbox.back_off("crm", pending[0], "answered 500")
    await outbox.results.dead_letter("crm", pending[2], 9, "answered 410")
    assert await outbox.refused("DELETE", "/crm") == (409, "CONFLICT", [])
    assert await outbox.refused("DELETE", "/nobody") == (404, "NOT_FOUND", [])
    await outbox.server.stop()

    # A record that is due for no other endpoint expires after `forget`.
    slot = await outbox.mongo.outbox.find_one_and_update(
        {}, {"$set": {"due": [slot_of("crm", 3)]}}, {"_id": 1}
    )
    outbox = await idle_outbox()
    gone = await outbox.endpoint("crm")
    assert (gone["configured"], gone["url"], gone["types"]) == (False, None, None)
    assert (gone["pending"], gone["failing"], gone["dead"]) == (3, 1, 1)
    assert await outbox.refused("POST", "/replay", {"dead": True, "endpoint": "crm"}) == (
        400,
        "VALIDATION_FAILED",
        ["endpoint"],
    )
    assert (await outbox.replay(dead=True))["replayed"] == 0

    code, answer = await outbox.people.master("DELETE", "/webhooks/crm")
    assert (code, answer) == (200, {"dropped": 5, "more": False})
    assert [endpoint["name"] for endpoint in (await outbox.status())["endpoints"]] == ["default"]
    assert len(await outbox.due("default")) == 3
    freed = await outbox.mongo.outbox.find_one(slot)
    assert "due" not in freed
    assert freed["expiresAt"] - now() > timedelta(days=6)
    async for doc in outbox.mongo.log.find({}):
        assert "expiresAt" not in doc
    assert await outbox.refused("DELETE", "/crm") == (404, "NOT_FOUND", [])


@pytest.mark.parametrize(
    ("selection", "field"),
    [
        ({}, "ids"),
        ({"endpoint": "default"}, "ids"),
        ({"dead": False}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": ["x"] * 201}, "ids"),
        ({"ids": [{"$gt": ""}]}, "ids.0"),
        ({"ids": ["evt_1"], "type": "message.created"}, "ids"),
        ({"until": "2026-11-21T09:30:00.000Z"}, "until"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-21T09:30:00"}, "since"),
        ({"since": "0001-01-01T00:00:00+23:00"}, "since"),
        ({"since": 1795276800}, "since"),
        ({"since": {"$gt": ""}}, "since"),
        ({"type": "message.read"}, "type"),
        ({"type": {"$ne": ""}}, "type"),
        ({"conversationId": {"$ne": ""}}, "conversationId"),
        ({"conversationId": ""}, "conversationId"),
        ({"dead": "yes"}, "dead"),
        ({"dead": 1}, "dead"),
        ({"dead": True, "endpoint": "nobody"}, "endpoint"),
        ({"dead": True, "endpoint": "a:b"}, "endpoint"),
        ({"dead": True, "endpoint": {"$ne": ""}}, "endpoint"),
        ({"type": "message.created", "cursor": "x"}, "cursor"),
        ({"type": "message.created", "cursor": {"$gt": ""}}, "cursor"),
        ({"type": "message.created", "limit": 5}, "limit"),
    ],
)
async def test_a_bad_selection_is_refused_by_name(
    people: People, selection: dict[str, Any], field: str
) -> None:
    code, answer = await people.master("POST", "/webhooks/replay", selection)
    assert (code, answer["error"]["code"]) == (400, "VALIDATION_FAILED")
    assert list(answer["error"]["details"]) == [field]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=5.", "cursor"),
        ("cursor=999999999999999.x", "cursor"),
        ("type=x", "type"),
        ("endpoint=A", "endpoint"),
        ("endpoint[$ne]=a", "endpoint[$ne]"),
    ],
)
async def test_a_bad_query_of_the_list_is_refused_by_name(
    people: People, query: str, field: str
) -> None:
    code, answer = await people.master("GET", f"/webhooks/dead?{query}")
    assert (code, list(answer["error"]["details"])) == (400, [field])


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/dead"), ("POST", "/replay"), ("DELETE", "/crm")],
)
async def test_the_admin_api_needs_the_secret(people: People, method: str, path: str) -> None:
    url = f"{people.server.rest}/api/webhooks{path}"
    for headers in ({}, {"X-Internal-Secret": "wrong"}):
        code, answer = await ask(people.session, method, url, None, headers)
        assert (code, answer["error"]["code"]) == (401, "UNAUTHENTICATED")
    alice = people("alice")
    assert (await alice.request(method, f"/webhooks{path}"))[0] == 401
