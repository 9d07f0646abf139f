"""The Master Service creates, updates and deletes users, with the shared secret alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from socketio.exceptions import ConnectionError as ConnectionRefused

from tests.conftest import Starter
from tests.support.people import People, ask
from tests.support.servers import INTERNAL_SECRET, ChatServer, MongoServer
from tests.support.shapes import A_SENTENCE, A_TIME


def user(user_id: str, **known: Any) -> dict[str, Any]:
    return {
        "externalUserId": user_id,
        "name": None,
        "avatarUrl": None,
        "status": "active",
        "metadata": {},
        "lastSeen": None,
        "createdAt": A_TIME,
        "updatedAt": A_TIME,
        **known,
    }


async def test_a_user_is_created_and_then_partly_updated(people: People) -> None:
    alice = people("alice")
    whole = {
        "externalUserId": alice.id,
        "name": "Alice Ünal",
        "avatarUrl": "https://files.example/a.png",
        "status": "active",
        "metadata": {"plan": "pro", "$set": "", "a.b": 1},
    }
    status, made = await people.master("POST", "/users/sync", whole)
    assert (status, made) == (201, user(alice.id, **whole))
    assert await people.master("POST", "/users/sync", whole) == (200, {**made, "updatedAt": A_TIME})

    known = dict(whole)
    for change in (
        {"name": "Alice"},
        {"avatarUrl": None, "metadata": {}},
        {"name": None},
        {},
        {"metadata": {"plan": "free"}, "name": "A."},
    ):
        status, after = await people.master(
            "POST", "/users/sync", {"externalUserId": alice.id, **change}
        )
        known |= change
        assert (status, after) == (200, user(alice.id, **known))
        assert after["createdAt"] == made["createdAt"]
        assert await people.master("GET", f"/users/{alice.id}") == (200, after)


async def test_a_user_created_by_a_token_keeps_the_name_of_the_token(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    assert (await people.master("GET", f"/users/{alice.id}"))[0] == 404
    await alice.direct(bob)
    assert await people.master("GET", f"/users/{alice.id}") == (200, user(alice.id))
    status, answer = await people.master("POST", "/users/sync", {"externalUserId": bob.id})
    assert (status, answer) == (200, user(bob.id))


async def test_a_batch_reports_bad_rows_and_applies_the_others(people: People) -> None:
    known, *new = people("known", "new", "new", "new")
    await people.master("POST", "/users/sync", {"externalUserId": known.id, "name": "Before"})
    rows: list[Any] = [
        {"externalUserId": new[0].id, "name": "Zero"},
        {"externalUserId": ""},
        {"externalUserId": new[1].id, "name": {"$gt": ""}},
        None,
        {"externalUserId": known.id, "name": "After"},
        {"externalUserId": new[2].id, "colour": "red"},
        "nonsense",
        {"externalUserId": new[0].id, "name": "Zero again"},
        {"externalUserId": new[1].id, "status": "deleted"},
        [],
    ]
    status, answer = await people.master("POST", "/users/sync/batch", {"users": rows})
    assert status == 200
    assert (answer["created"], answer["updated"]) == (1, 2)
    failed = {row["index"]: row["error"] for row in answer["failed"]}
    assert list(failed) == [1, 2, 3, 5, 6, 8, 9]
    for error in failed.values():
        assert (error["code"], error["message"]) == ("VALIDATION_FAILED", A_SENTENCE)
    fields = {1: "externalUserId", 2: "name", 5: "colour", 8: "status"}
    assert {index: list(failed[index]["details"]) for index in fields} == {
        index: [field] for index, field in fields.items()
    }
    for who, name in ((new[0], "Zero again"), (known, "After")):
        assert (await people.master("GET", f"/users/{who.id}"))[1]["name"] == name
    for who in (new[1], new[2]):
        assert (await people.master("GET", f"/users/{who.id}"))[0] == 404


async def test_several_rows_for_one_user_are_applied_in_order(
    people: People,
) -> None:
    known, new = people("known", "new")
    await people.master("POST", "/users/sync", {"externalUserId": known.id, "name": "Before"})
    await people.master("DELETE", f"/users/{known.id}")
    rows = [
        {"externalUserId": new.id, "name": "First", "metadata": {"team": "red"}},
        {"externalUserId": known.id, "status": "active"},
        {"externalUserId": new.id, "name": "Second", "status": "blocked"},
        {"externalUserId": new.id, "avatarUrl": "https://cdn.example/new.png"},
    ]
    status, answer = await people.master("POST", "/users/sync/batch", {"users": rows})
    assert (status, answer) == (200, {"created": 1, "updated": 3, "failed": []})
    assert (await people.master("GET", f"/users/{known.id}"))[1]["status"] == "active"
    stored = (await people.master("GET", f"/users/{new.id}"))[1]
    assert (stored["name"], stored["status"], stored["metadata"], stored["avatarUrl"]) == (
        "Second",
        "blocked",
        {"team": "red"},
        "https://cdn.example/new.png",
    )


async def test_a_batch_has_at_most_a_thousand_rows(people: People) -> None:
    prefix = people("crowd").id
    rows = [{"externalUserId": f"{prefix}-{n}", "metadata": {"a": "x" * 200}} for n in range(1001)]
    status, answer = await people.master("POST", "/users/sync/batch", {"users": rows})
    assert (status, list(answer["error"]["details"])) == (400, ["users"])
    assert (await people.master("GET", f"/users/{prefix}-0"))[0] == 404
    status, answer = await people.master("POST", "/users/sync/batch", {"users": rows[:1000]})
    assert (status, answer) == (200, {"created": 1000, "updated": 0, "failed": []})
    assert (await people.master("GET", f"/users/{prefix}-999"))[0] == 200


async def test_a_blocked_user_is_disconnected_and_refused_everywhere(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone, poll = [
        await bob.connect(transport) for transport in ("websocket", "upgrade", "polling")
    ]
    hers = await alice.connect()
    await people.master("POST", "/users/sync", {"externalUserId": bob.id, "status": "blocked"})
    for device in (desk, phone, poll):
        assert (await device.hears("error"))["code"] == "FORBIDDEN"
        await asyncio.wait_for(device.gone.wait(), 5)
    for method, path in (("GET", "/conversations"), ("GET", f"/conversations/{talk['id']}")):
        refusal = await bob.refused(method, path)
        assert (refusal.status, refusal.code) == (403, "FORBIDDEN")
    status, answer = await people.master("GET", "/conversations", **{"X-User-Id": bob.id})
    assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
    with pytest.raises(ConnectionRefused):
        await bob.connect()
    # He is still a participant, and receives events again when he is unblocked.
    sent = await hers.say(talk, "Are you there?")
    back = {"externalUserId": bob.id, "status": "active"}
    assert (await people.master("POST", "/users/sync", back))[0] == 200
    again = await bob.connect()
    assert await bob.ask("GET", f"/conversations/{talk['id']}/messages") == {
        "items": [sent],
        "hasMore": False,
    }
    assert (await again.say(talk, "Yes"))["seq"] == 2


async def test_a_deleted_user_is_removed_from_every_conversation(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    direct, group, his = (
        await alice.direct(bob),
        await alice.group(bob, carol),
        await bob.group(alice),
    )
    alone = await bob.group()
    desk, phone, poll = await alice.connect(), await bob.connect(), await bob.connect("polling")
    said = [await phone.say(talk, "I was here") for talk in (direct, group, his)]
    await desk.caught_up()

    assert await people.master("DELETE", f"/users/{bob.id}") == (204, None)
    for device in (phone, poll):
        assert (await device.hears("error"))["code"] == "FORBIDDEN"
        await asyncio.wait_for(device.gone.wait(), 5)
    refusal = await bob.refused("GET", "/conversations")
    assert (refusal.status, refusal.code) == (403, "FORBIDDEN")

    told = await desk.all_heard("participant:removed")
    assert sorted(event["conversationId"] for event in told) == sorted(
        talk["id"] for talk in (direct, group, his)
    )
    assert all(event["userId"] == bob.id for event in told)
    for talk, message in zip((direct, group, his), said, strict=True):
        seen = await alice.ask("GET", f"/conversations/{talk['id']}")
        assert bob.id not in [participant["userId"] for participant in seen["participants"]]
        assert seen["lastMessage"] == message  # his own messages stay
    assert seen["participants"][0]["role"] == "owner"  # somebody else became the owner
    status, gone = await people.master("GET", f"/users/{bob.id}")
    assert (status, gone) == (200, user(bob.id, status="deleted") | {"lastSeen": gone["lastSeen"]})
    assert await people.master("DELETE", f"/users/{bob.id}") == (204, None)

    # Only the Master Service can restore him.
    path = f"/conversations/{group['id']}/participants"
    for who, where, field, named in [
        (alice, path, "userIds", [bob.id]),
        (carol, "/conversations/private", "userIds", [bob.id]),
        (carol, "/conversations/direct", "userId", bob.id),
    ]:
        refusal = await who.refused("POST", where, {field: named})
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", [field])

    body = {"externalUserId": bob.id, "status": "active"}
    status, back = await people.master("POST", "/users/sync", body)
    assert (status, back["status"]) == (200, "active")
    assert (await bob.ask("GET", "/conversations"))["items"] == []
    assert (await bob.refused("GET", f"/conversations/{alone['id']}")).code == "NOT_FOUND"
    await alice.ask("POST", path, {"userIds": [bob.id]})
    assert [talk["id"] for talk in (await bob.ask("GET", "/conversations"))["items"]] == [
        group["id"]
    ]


async def test_a_direct_conversation_works_again_after_a_deleted_user_is_restored(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    await people.master("DELETE", f"/users/{bob.id}")
    await people.master("POST", "/users/sync", {"externalUserId": bob.id, "status": "active"})
    again = await alice.direct(bob)
    assert again["id"] == talk["id"]  # a pair has one direct conversation for ever
    assert {participant["userId"] for participant in again["participants"]} == {alice.id, bob.id}
    assert (await bob.direct(alice))["id"] == again["id"]
    sent = await (await bob.connect()).say(again, "Here again")
    assert (await alice.ask("GET", f"/messages/{sent['id']}")) == sent


async def test_an_unknown_user_cannot_be_read_or_deleted(people: People) -> None:
    nobody = people("nobody").id
    for method in ("GET", "DELETE"):
        status, answer = await people.master(method, f"/users/{nobody}")
        assert (status, answer["error"]["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users/sync", {"externalUserId": "x"}),
        ("POST", "/users/sync/batch", {"users": [{"externalUserId": "x"}]}),
        ("GET", "/users/x", None),
        ("DELETE", "/users/x", None),
        ("GET", "/jobs", None),
    ],
)
async def test_every_route_needs_the_secret(
    people: People, method: str, path: str, body: Any
) -> None:
    alice = people("alice")
    await alice.ask("GET", "/conversations")
    own = path.replace("/x", f"/{alice.id}")
    token = {"Authorization": f"Bearer {alice.token}"}
    url = f"{people.server.rest}/api{own}"
    for headers in (
        {},
        token,
        {**token, "X-User-Id": alice.id},
        {"X-Internal-Secret": ""},
        {"X-Internal-Secret": INTERNAL_SECRET[:-1]},
        {"X-Internal-Secret": INTERNAL_SECRET + "x"},
        {"X-Internal-Secret": INTERNAL_SECRET.upper()},
        {"X-Internal-Secret": "ü\udcff"},
        {"Authorization": f"Bearer {INTERNAL_SECRET}"},
    ):
        status, answer = await ask(people.session, method, url, body, headers)
        assert (status, answer["error"]["code"]) == (401, "UNAUTHENTICATED"), headers
    secret = {"X-Internal-Secret": INTERNAL_SECRET}
    # WS_PORT does not serve the internal API, with any secret.
    async with people.session.request(
        method, f"{people.server.sockets}/api{own}", json=body, headers=secret
    ) as refused:
        assert refused.status == 404
    assert (await people.master("GET", f"/users/{alice.id}"))[1]["status"] == "active"


async def test_a_secret_can_be_rotated(start: Any) -> None:
    newer, older = "newer-" * 6, "older-" * 6
    server: ChatServer = await start(INTERNAL_API_SECRET=f"{newer},{older}")
    async with aiohttp.ClientSession() as session:
        for secret, expected in ((newer, 201), (older, 200), (f"{newer},{older}", 401)):
            status, _ = await ask(
                session,
                "POST",
                f"{server.rest}/api/users/sync",
                {"externalUserId": "alice"},
                {"X-Internal-Secret": secret},
            )
            assert status == expected


async def test_a_batch_is_stored_in_time_by_a_slow_database(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(own_mongo.url)
    people = people_of(server)
    rows = [{"externalUserId": f"user-{n}", "name": f"{n}"} for n in range(1000)]
    namespace = f"{server.env['MONGO_DATABASE']}.users"
    slow = {"blockConnection": True, "blockTimeMS": 500, "namespace": namespace}
    with own_mongo.failing("update", "findAndModify", **slow):
        answer = await people.master("POST", "/users/sync/batch", {"users": rows})
        assert answer == (200, {"created": 1000, "updated": 0, "failed": []})
        again = [{"externalUserId": "user-0", "name": f"{n}"} for n in range(1000)]
        answer = await people.master("POST", "/users/sync/batch", {"users": again})
        assert answer == (200, {"created": 0, "updated": 1000, "failed": []})
    assert (await people.master("GET", "/users/user-0"))[1]["name"] == "999"
    assert (await people.master("GET", "/users/user-999"))[1]["name"] == "999"
