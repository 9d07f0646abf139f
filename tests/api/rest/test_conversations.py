"""Conversations over REST: created, found again, changed, deleted."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.people import People, devices
from tests.support.shapes import conversation, participant, seen_by


async def test_alice_creates_a_group_and_everybody_in_it_is_notified(people: People) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    desk, phone, tablet, outside = await devices(alice, bob, bob, stranger)
    asked = {
        "type": "group",
        "name": "Plans 🗓",
        "avatarUrl": "https://files.example/plans.png",
        # Alice herself, and one user twice: each becomes a participant once.
        "participantIds": [bob.id, alice.id, carol.id, bob.id],
        "metadata": {"colour": "red", "$gt": "", "a.b": None, "half": 0.5},
    }
    status, made = await alice.request("POST", "/conversations", asked)
    rest = sorted([participant(bob.id), participant(carol.id)], key=lambda row: row["userId"])
    assert status == 201
    assert made == conversation(
        participant(alice.id, "owner"),
        *rest,
        name=asked["name"],
        avatarUrl=asked["avatarUrl"],
        metadata=asked["metadata"],
        createdBy=alice.id,
    )
    for device in (desk, phone, tablet):
        assert await device.all_heard("conversation:new") == [made]
    assert await outside.all_heard("conversation:new") == []

    # Their sockets are already in the room.
    sent = await desk.say(made, "When?")
    assert await tablet.hears("message:new") == sent
    for person in (alice, bob, carol):
        seen = await person.ask("GET", f"/conversations/{made['id']}")
        now = {**made, "lastSeq": 1, "lastRev": 1, "lastMessage": sent}
        assert seen == seen_by(now, person.id)
    assert (await stranger.refused("GET", f"/conversations/{made['id']}")).code == "NOT_FOUND"


@pytest.mark.parametrize("kind", ["group", "channel"])
async def test_a_conversation_may_start_with_its_creator_alone(people: People, kind: str) -> None:
    alice = people("alice")
    asked = {"type": kind, "participantIds": []}
    status, made = await alice.request("POST", "/conversations", asked)
    assert status == 201
    alone = participant(alice.id, "owner")
    assert made == conversation(alone, type=kind, createdBy=alice.id)
    # Only direct conversations are unique.
    assert (await alice.ask("POST", "/conversations", asked))["id"] != made["id"]


async def test_two_people_have_one_direct_conversation_for_ever(people: People) -> None:
    alice, bob = people("alice", "bob")
    desk, phone = await devices(alice, bob)
    asked = {"type": "direct", "participantIds": [bob.id]}
    status, made = await alice.request("POST", "/conversations", asked)
    pair = participant(alice.id), participant(bob.id)
    assert status == 201
    assert made == conversation(*pair, type="direct", createdBy=alice.id)

    for who, path, body in [
        (alice, "/conversations", asked),
        (bob, "/conversations", {"type": "direct", "participantIds": [alice.id, bob.id]}),
        (alice, "/conversations/direct", {"userId": bob.id}),
        (bob, "/conversations/direct", {"userId": alice.id}),
    ]:
        assert await who.request("POST", path, body) == (200, seen_by(made, who.id))
    for device in (desk, phone):
        assert await device.all_heard("conversation:new") == [seen_by(made)]


async def test_a_direct_conversation_has_exactly_two_people(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    for others in ([], [alice.id], [bob.id, carol.id]):
        refusal = await alice.refused(
            "POST", "/conversations", {"type": "direct", "participantIds": others}
        )
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["participantIds"])
    refusal = await alice.refused("POST", "/conversations/direct", {"userId": alice.id})
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["userId"])
    refusal = await alice.refused("POST", "/conversations/private", {"userIds": [alice.id]})
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["userIds"])
    assert (await alice.ask("GET", "/conversations"))["items"] == []


async def test_twenty_requests_at_once_get_the_same_direct_conversation(people: People) -> None:
    alice, bob = people("alice", "bob")
    phone = await bob.connect()
    answers = await asyncio.gather(
        *[alice.request("POST", "/conversations/direct", {"userId": bob.id}) for _ in range(10)],
        *[bob.request("POST", "/conversations/direct", {"userId": alice.id}) for _ in range(10)],
    )
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    first = answers[0][1]
    assert all(made == first for _, made in answers[:10])
    assert all(made == seen_by(first, bob.id) for _, made in answers[10:])
    assert await phone.all_heard("conversation:new") == [seen_by(first)]
    assert [
        conversation["id"] for conversation in (await bob.ask("GET", "/conversations"))["items"]
    ] == [first["id"]]


async def test_the_same_people_in_any_order_have_one_private_group(people: People) -> None:
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    names = {person.id: person for person in (alice, bob, carol)}
    asking = []
    for n in range(20):
        who = [alice, bob, carol][n % 3]
        others = [user_id for user_id in sorted(names, reverse=n % 2 == 0) if user_id != who.id]
        asking.append(
            who.request("POST", "/conversations/private", {"userIds": others * (1 + n % 2)})
        )
    answers = await asyncio.gather(*asking)
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    group = answers[0][1]
    for n, (_, made) in enumerate(answers):
        assert made == seen_by(group, [alice, bob, carol][n % 3].id)
    assert group["type"] == "group"
    assert {participant["userId"] for participant in group["participants"]} == set(names)
    assert [participant["role"] for participant in group["participants"]].count("owner") == 1

    async def private(*others: str) -> str:
        made = await alice.ask("POST", "/conversations/private", {"userIds": list(others)})
        return made["id"]

    # Other sets of users have other groups, and the group of a pair is not their direct conversation.
    ids = {
        group["id"],
        await private(bob.id),
        await private(carol.id),
        await private(bob.id, carol.id, dave.id),
        (await alice.direct(bob))["id"],
    }
    assert len(ids) == 5
    assert await private(carol.id, bob.id) == group["id"]

    # With another participant it is no longer the group of those three.
    owner = names[
        next(
            participant["userId"]
            for participant in group["participants"]
            if participant["role"] == "owner"
        )
    ]
    path = f"/conversations/{group['id']}/participants"
    await owner.ask("POST", path, {"userIds": [dave.id]})
    assert await private(bob.id, carol.id) not in ids


async def test_a_named_but_unknown_user_is_created(people: People) -> None:
    alice, bob, carol, dave, erin = people("alice", "bob", "carol", "dave", "erin")
    group = await alice.group(bob)
    await alice.direct(carol)
    await alice.ask("POST", "/conversations/private", {"userIds": [dave.id]})
    await alice.ask("POST", f"/conversations/{group['id']}/participants", {"userIds": [erin.id]})
    for person in (alice, bob, carol, dave, erin):
        status, user = await people.master("GET", f"/users/{person.id}")
        assert (status, user["status"]) == (200, "active")


async def test_a_conversation_is_renamed_for_all_who_are_in_it(people: People) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol, name="Old", metadata={"a": 1})
    path = f"/conversations/{group['id']}"
    await alice.ask("PATCH", f"{path}/participants/{bob.id}", {"role": "admin"})
    desk, phone, outside = await devices(alice, carol, stranger)
    before = await alice.ask("GET", path)

    for who, change in [
        (alice, {"name": "New"}),
        (bob, {"avatarUrl": "https://files.example/n.png", "metadata": {"b": "2"}}),
        (alice, {"name": None, "avatarUrl": None, "metadata": {}}),
    ]:
        after = await who.ask("PATCH", path, change)
        changed = {**before, **change, "updatedAt": after["updatedAt"]}
        assert after == seen_by(changed, who.id)
        assert after["updatedAt"] > before["updatedAt"]
        for device in (desk, phone):
            assert await device.hears("conversation:updated") == seen_by(after)
        assert await carol.ask("GET", path) == seen_by(after, carol.id)
        before = after

    assert (await carol.refused("PATCH", path, {"name": "Mine"})).code == "FORBIDDEN"
    assert (await stranger.refused("PATCH", path, {"name": "Mine"})).code == "NOT_FOUND"
    refusal = await alice.refused("PATCH", path, {})
    assert (refusal.status, refusal.code) == (400, "VALIDATION_FAILED")
    assert await alice.ask("GET", path) == seen_by(before, alice.id)
    assert len(await phone.all_heard("conversation:updated")) == 3
    assert await outside.all_heard("conversation:updated") == []


async def test_a_deleted_conversation_is_deleted_for_all(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group, other = await alice.group(bob, carol), await alice.group(bob)
    path = f"/conversations/{group['id']}"
    await alice.ask("PATCH", f"{path}/participants/{bob.id}", {"role": "admin"})
    desk, phone, tablet = await devices(alice, bob, carol)
    sent = await phone.say(group, "The last word")
    for who in (bob, carol):
        assert (await who.refused("DELETE", path)).code == "FORBIDDEN"

    assert await alice.request("DELETE", path) == (204, None)
    for device in (desk, phone, tablet):
        assert await device.hears("conversation:removed") == {"conversationId": group["id"]}
        refusal = await device.refused(
            "message:send", {"conversationId": group["id"], "content": "Hello?"}
        )
        assert refusal.code == "NOT_FOUND"
        assert len(await device.all_heard("conversation:removed")) == 1
        assert len(await device.all_heard("message:new")) == 1
    for who in (alice, bob, carol):
        for gone in (path, f"{path}/messages", f"{path}/unread-count", f"/messages/{sent['id']}"):
            assert (await who.refused("GET", gone)).code == "NOT_FOUND"
        assert (await who.refused("DELETE", path)).code == "NOT_FOUND"
    assert [
        conversation["id"] for conversation in (await bob.ask("GET", "/conversations"))["items"]
    ] == [other["id"]]
    assert (await carol.ask("GET", "/conversations"))["items"] == []


async def test_nobody_can_change_or_delete_a_direct_conversation(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.direct(bob)
    path = f"/conversations/{talk['id']}"
    for who in (alice, bob):
        for method, where, body in [
            ("PATCH", path, {"name": "Ours"}),
            ("DELETE", path, None),
            ("POST", f"{path}/participants", {"userIds": [carol.id]}),
            ("PATCH", f"{path}/participants/{bob.id}", {"role": "admin"}),
            ("DELETE", f"{path}/participants/{bob.id}", None),
            ("DELETE", f"{path}/participants/{alice.id}", None),
        ]:
            refusal = await who.refused(method, where, body)
            assert (refusal.status, refusal.code) == (403, "FORBIDDEN"), (method, where)
    assert await bob.ask("GET", path) == seen_by(talk, bob.id)
    assert (await carol.refused("GET", path)).code == "NOT_FOUND"
