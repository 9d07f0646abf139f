"""A deleted user is gone: the profile is erased, and only the status `active` brings the user back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.database_proxy import Nodes
from tests.support.people import People

GONE = {"name": None, "avatarUrl": None, "metadata": {}, "status": "deleted"}
PROFILE = {"name": "Bob", "avatarUrl": "https://cdn.example/b.png", "metadata": {"team": "red"}}


@pytest_asyncio.fixture
async def near(two: Nodes) -> AsyncIterator[People]:
    async with aiohttp.ClientSession() as session:
        yield People(two.near, session)


@pytest_asyncio.fixture
async def far(two: Nodes, near: People) -> People:
    return People(two.far, near.session)


async def profile(people: People, user_id: str) -> dict[str, Any]:
    user = (await people.master("GET", f"/users/{user_id}"))[1]
    return {key: user[key] for key in GONE}


async def batch(people: People, *rows: Any) -> tuple[int, int, dict[int, str]]:
    _, report = await people.master("POST", "/users/sync/batch", {"users": list(rows)})
    failed = {row["index"]: row["error"]["code"] for row in report["failed"]}
    return report["created"], report["updated"], failed


async def test_a_deletion_erases_the_profile_on_every_node(near: People, far: People) -> None:
    bob = near("bob").id
    await near.master("POST", "/users/sync", {"externalUserId": bob, **PROFILE})
    assert (await profile(far, bob)) == {**PROFILE, "status": "active"}
    await near.master("DELETE", f"/users/{bob}")
    for node in (near, far):
        assert await profile(node, bob) == GONE
        for body in ({}, {"name": "Bob"}, {"status": "blocked"}):
            status, answer = await node.master(
                "POST", "/users/sync", {"externalUserId": bob, **body}
            )
            assert (status, answer["error"]["code"]) == (409, "CONFLICT")
        assert await profile(node, bob) == GONE
    back = {"externalUserId": bob, "status": "active", "name": "Robert"}
    status, user = await far.master("POST", "/users/sync", back)
    assert (status, user["status"], user["name"], user["metadata"]) == (
        200,
        "active",
        "Robert",
        {},
    )


async def test_the_rows_of_a_deleted_user_fail_until_one_restores_the_user(near: People) -> None:
    bob, carol, dave = (near(name).id for name in ("bob", "carol", "dave"))
    for gone in (bob, carol):
        await near.master("POST", "/users/sync", {"externalUserId": gone, **PROFILE})
        await near.master("DELETE", f"/users/{gone}")
    rows = [
        {"externalUserId": bob, "name": "Too early"},
        {"externalUserId": carol, "name": "Carol"},
        {"externalUserId": bob, "status": "blocked"},
        {"externalUserId": ""},
        {"externalUserId": bob, "status": "active", "metadata": {"a": 1}},
        {"externalUserId": dave, "name": "Dave"},
        {"externalUserId": bob, "status": "blocked"},
    ]
    failed = {0: "CONFLICT", 1: "CONFLICT", 2: "CONFLICT", 3: "VALIDATION_FAILED"}
    assert await batch(near, *rows) == (1, 2, failed)
    assert await profile(near, carol) == GONE
    assert await profile(near, bob) == {**GONE, "status": "blocked", "metadata": {"a": 1}}
    # Of an active user, all rows apply.
    assert await batch(near, *rows) == (0, 5, {1: "CONFLICT", 3: "VALIDATION_FAILED"})
    assert await profile(near, bob) == {
        **GONE,
        "name": "Too early",
        "status": "blocked",
        "metadata": {"a": 1},
    }


@pytest.mark.parametrize("change", [{"name": "Bob"}, {"status": "blocked"}, {}])
async def test_a_sync_that_a_deletion_overtakes_changes_nothing(
    two: Nodes,
    near: People,
    far: People,
    change: dict[str, str],
) -> None:
    bob = near("bob").id
    await near.master("POST", "/users/sync", {"externalUserId": bob, **PROFILE})
    for ask, result in (
        (far.master("POST", "/users/sync", {"externalUserId": bob, **change}), None),
        (batch(far, {"externalUserId": bob, **change}), (0, 0, {0: "CONFLICT"})),
    ):
        hold = two.proxy.hold("update", "users", bob)
        asking = asyncio.create_task(ask)
        await hold.arrived()
        await near.master("DELETE", f"/users/{bob}")
        hold.release()
        answer: Any = await asking
        assert answer == result if result else answer[0] == 409
        assert await profile(near, bob) == GONE
        await near.master("POST", "/users/sync", {"externalUserId": bob, "status": "active"})


async def test_a_restoration_does_not_undo_the_block_that_follows_it(
    near: People, far: People
) -> None:
    """It was two writes, and a block on another node could come between them."""
    for _ in range(20):
        bob = near("bob").id
        await near.master("POST", "/users/sync", {"externalUserId": bob})
        await near.master("DELETE", f"/users/{bob}")
        restored, _ = await asyncio.gather(
            near.master("POST", "/users/sync", {"externalUserId": bob, "status": "active"}),
            far.master("POST", "/users/sync", {"externalUserId": bob, "name": "Bob"}),
        )
        blocked, *_ = await asyncio.gather(
            near.master("POST", "/users/sync", {"externalUserId": bob, "status": "blocked"}),
            *[
                far.master("POST", "/users/sync", {"externalUserId": bob, "name": f"Bob {n}"})
                for n in range(3)
            ],
        )
        assert (restored[0], blocked[0]) == (200, 200)
        assert (await profile(far, bob))["status"] == "blocked"


async def test_users_who_are_created_on_two_nodes_at_once_are_created_once(
    near: People, far: People
) -> None:
    for _ in range(20):
        bob = near("bob").id
        answers = await asyncio.gather(
            *[
                node.master("POST", "/users/sync", {"externalUserId": bob, "name": "Bob"})
                for node in (near, far, near, far)
            ]
        )
        assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
