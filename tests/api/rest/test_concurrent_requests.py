"""Many identical requests at the same moment have their effect once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from tests.conftest import Starter
from tests.support.people import PATIENCE_S, People, devices


async def statuses(*asked: Awaitable[tuple[int, Any]]) -> Counter[int]:
    return Counter([status for status, _ in await asyncio.gather(*asked)])


async def test_a_user_who_is_added_many_times_at_once_is_added_once(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob)
    phone, tablet = await devices(bob, carol)
    path = f"/conversations/{group['id']}/participants"
    both = {"userIds": [carol.id, bob.id]}
    assert await statuses(*[alice.request("POST", path, both) for _ in range(10)]) == {200: 10}
    assert len(await tablet.all_heard("conversation:joined")) == 1
    assert len(await phone.all_heard("participant:added")) == 1
    seen = await carol.ask("GET", f"/conversations/{group['id']}")
    assert seen["participantCount"] == 3


async def test_a_user_who_is_removed_many_times_at_once_is_removed_once(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    phone, tablet = await devices(bob, carol)
    path = f"/conversations/{group['id']}/participants/{carol.id}"
    asked = [alice.request("DELETE", path) for _ in range(5)]
    asked += [carol.request("DELETE", path) for _ in range(5)]
    assert await statuses(*asked) == {204: 1, 404: 9}
    assert len(await tablet.all_heard("conversation:removed")) == 1
    assert len(await phone.all_heard("participant:removed")) == 1


async def test_a_conversation_that_is_deleted_many_times_at_once_ends_once(people: People) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    phone = await bob.connect()
    path = f"/conversations/{group['id']}"
    assert await statuses(*[alice.request("DELETE", path) for _ in range(10)]) == {204: 1, 404: 9}
    assert await phone.all_heard("conversation:removed") == [{"conversationId": group["id"]}]


async def test_a_new_user_with_ten_requests_at_once_is_created_once(people: People) -> None:
    alice, bob = people("alice", "bob")
    asked = [alice.request("GET", "/conversations") for _ in range(10)]
    asked += [bob.request("GET", f"/users/{alice.id}/presence") for _ in range(10)]
    assert await statuses(*asked) == {200: 20}
    first, second = people("one", "two")
    syncs = [
        people.master("POST", "/users/sync", {"externalUserId": first.id, "name": f"{n}"})
        for n in range(20)
    ]
    assert await statuses(*syncs) == {200: 19, 201: 1}
    named = [
        alice.request("POST", "/conversations", {"type": "group", "participantIds": [second.id]})
        for _ in range(10)
    ]
    assert await statuses(*named) == {201: 10}
    assert len((await second.ask("GET", "/conversations"))["items"]) == 10


async def test_people_who_join_and_leave_at_once_leave_one_owner(people: People) -> None:
    alice, *others = people("alice", "bob", "carol", "dave", "erin", "frank")
    group = await alice.group(*others)
    path = f"/conversations/{group['id']}"
    watcher = others[-1]
    asked: list[Awaitable[tuple[int, Any]]] = [
        alice.request("DELETE", f"{path}/participants/{alice.id}"),
        *[
            alice.request("PATCH", f"{path}/participants/{person.id}", {"role": "admin"})
            for person in others
        ],
        *[person.request("DELETE", f"{path}/participants/{person.id}") for person in others[:-1]],
        *[watcher.request("PATCH", path, {"name": f"{n}"}) for n in range(5)],
    ]
    assert not set(await statuses(*asked)) - {200, 204, 403, 404}
    seen = await watcher.ask("GET", path)
    assert [
        (participant["userId"], participant["role"]) for participant in seen["participants"]
    ] == [(watcher.id, "owner")]


async def test_a_user_who_is_deleted_meanwhile_is_left_out_all_the_same(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(carol)
    add = f"/conversations/{group['id']}/participants"
    await bob.ask("GET", "/conversations")
    create: dict[str, Any] = {"type": "group", "participantIds": [bob.id]}
    asked = [alice.request("POST", "/conversations", create) for _ in range(8)]
    asked += [
        bob.request("POST", "/conversations", {**create, "participantIds": [alice.id]})
        for _ in range(8)
    ]
    asked += [alice.request("POST", add, {"userIds": [bob.id]})]
    asked += [people.master("DELETE", f"/users/{bob.id}") for _ in range(3)]
    found = await statuses(*asked)
    assert set(found) <= {200, 201, 202, 204, 400, 403}
    assert found[204] + found[202] == 3
    async with asyncio.timeout(PATIENCE_S):
        while any(job["subject"] == bob.id for job in await unfinished(people)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for conversation in (await alice.ask("GET", "/conversations"))["items"]:
        assert bob.id not in [participant["userId"] for participant in conversation["participants"]]


async def unfinished(people: People) -> list[Any]:
    return (await people.master("GET", "/jobs?limit=200"))[1]["items"]


async def test_two_nodes_with_the_same_request_create_one_conversation(
    start: Starter, people_of: Any
) -> None:
    here, there = people_of(await start()), people_of(await start(LOG_LEVEL="debug"))
    alice, bob, carol = here("alice", "bob", "carol")
    alice_there, bob_there = there("alice", "bob")
    alice_there.id, bob_there.id = alice.id, bob.id
    for path, hers, his in [
        ("/conversations/direct", {"userId": bob.id}, {"userId": alice.id}),
        (
            "/conversations/private",
            {"userIds": [bob.id, carol.id]},
            {"userIds": [carol.id, alice.id]},
        ),
    ]:
        answers = await asyncio.gather(
            *[person.request("POST", path, hers) for person in (alice, alice_there) * 5],
            *[person.request("POST", path, his) for person in (bob, bob_there) * 5],
        )
        assert Counter(status for status, _ in answers) == {200: 19, 201: 1}
        assert len({made["id"] for _, made in answers}) == 1
    assert len((await bob.ask("GET", "/conversations"))["items"]) == 2


async def test_the_longest_message_is_as_long_as_the_setting(
    start: Starter, people_of: Any
) -> None:
    people = people_of(await start(MESSAGE_MAX_CHARS="5"))
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    sent = await desk.say(talk, "👍👍👍👍👍")
    for event, where in (("message:send", "conversationId"), ("message:edit", "messageId")):
        ids = {"conversationId": talk["id"], "messageId": sent["id"]}
        refusal = await desk.refused(event, {where: ids[where], "content": "123456"})
        assert list(refusal.details) == ["content"]
