"""Roles in a conversation: their permissions, and the roles after users join and leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.people import People, Person, devices
from tests.support.shapes import A_TIME, participant, seen_by


async def role_of(viewer: Person, talk: Any, person: Person) -> str:
    seen = await viewer.ask("GET", f"/conversations/{talk['id']}")
    return next(entry["role"] for entry in seen["participants"] if entry["userId"] == person.id)


async def cast(people: People) -> tuple[Any, list[Person]]:
    """A group with an owner, two admins and two members, and a user who is not in it."""
    owner, admin, other_admin, member, other, stranger = people(
        "owner", "admin", "admin", "member", "member", "stranger"
    )
    talk = await owner.group(admin, other_admin, member, other)
    for person in (admin, other_admin):
        path = f"/conversations/{talk['id']}/participants/{person.id}"
        await owner.ask("PATCH", path, {"role": "admin"})
    return talk, [owner, admin, other_admin, member, other, stranger]


async def test_an_added_user_receives_events_of_the_conversation_from_then_on(
    people: People,
) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, name="Plans")
    desk, phone, tablet, watch, outside = await devices(alice, bob, carol, carol, stranger)
    await desk.say(group, "Before")
    path = f"/conversations/{group['id']}"

    status, after = await alice.request("POST", f"{path}/participants", {"userIds": [carol.id]})
    assert status == 200
    assert await carol.ask("GET", path) == seen_by(after, carol.id)
    assert after["participants"][-1] == participant(carol.id) | {"lastReadSeq": 1}
    assert after["participantCount"] == 3
    for device in (tablet, watch):
        assert await device.all_heard("conversation:joined") == [after]
    added = {"conversationId": group["id"], "userId": carol.id, "timestamp": A_TIME}
    for device in (desk, phone, tablet):
        assert await device.all_heard("participant:added") == [added]
    for device in (desk, phone):
        assert await device.all_heard("conversation:joined") == []
    sent = await desk.say(group, "Welcome")
    assert await watch.all_heard("message:new") == [sent]
    reply = await tablet.say(group, "Hello")
    assert await phone.hears("message:new", lambda payload: payload["id"] == reply["id"]) == reply

    # Users who are already in it stay as they are, and nothing is announced.
    both = {"userIds": [bob.id, carol.id, carol.id]}
    again = await alice.ask("POST", f"{path}/participants", both)
    assert [entry["userId"] for entry in again["participants"]] == [
        entry["userId"] for entry in after["participants"]
    ]
    for device in (desk, phone, tablet):
        assert len(await device.all_heard("participant:added")) == 1
    assert len(await tablet.all_heard("conversation:joined")) == 1
    assert [name for name, _ in outside.heard] == ["connected"]


async def test_a_removed_user_is_notified_and_receives_nothing_more(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, phone, tablet = await devices(alice, bob, bob)
    path = f"/conversations/{group['id']}"
    await phone.say(group, "I was here")
    assert await alice.request("DELETE", f"{path}/participants/{bob.id}") == (204, None)

    removed = {"conversationId": group["id"], "userId": bob.id, "timestamp": A_TIME}
    assert await desk.hears("participant:removed") == removed
    for device in (phone, tablet):
        assert await device.hears("conversation:removed") == {"conversationId": group["id"]}
        assert await device.all_heard("participant:removed") == []
    sent = await desk.say(group, "He is gone")
    for event, more in [
        ("message:send", {"content": "Not me"}),
        ("messages:sync", {"afterSeq": 0}),
        ("typing:start", {}),
        ("conversation:read", {}),
        ("room:join", {}),
    ]:
        refusal = await phone.refused(event, {"conversationId": group["id"], **more})
        assert refusal.code == "NOT_FOUND", event
    for event in ("message:read", "reaction:add"):
        more = {"emoji": "👍"} if event == "reaction:add" else {}
        assert (await phone.refused(event, {"messageId": sent["id"], **more})).code == "NOT_FOUND"
    for where in (path, f"{path}/messages", f"{path}/presence", f"/messages/{sent['id']}"):
        assert (await bob.refused("GET", where)).code == "NOT_FOUND"
    assert len(await tablet.all_heard("message:new")) == 1
    assert (await bob.ask("GET", "/conversations"))["items"] == []
    left = await carol.ask("GET", path)
    assert [entry["userId"] for entry in left["participants"]] == [carol.id, alice.id]
    assert (await alice.refused("DELETE", f"{path}/participants/{bob.id}")).code == "NOT_FOUND"

    # His messages stay, and he may be added again.
    await alice.ask("POST", f"{path}/participants", {"userIds": [bob.id]})
    assert (await tablet.hears("conversation:joined"))["id"] == group["id"]
    items = (await bob.ask("GET", f"{path}/messages"))["items"]
    assert [message["content"] for message in items] == ["I was here", "He is gone"]


OWNER, ADMIN, PEER, MEMBER, OTHER, STRANGER = range(6)


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("PATCH", "", {"name": "New"}, {OWNER, ADMIN}),
        ("POST", "/participants", {"userIds": ["someone-new"]}, {OWNER, ADMIN}),
        ("POST", "/participants", {"userIds": ["a-new-admin"], "role": "admin"}, {OWNER}),
        ("PATCH", "/participants/{other}", {"role": "admin"}, {OWNER}),
        ("PATCH", "/participants/{peer}", {"role": "member"}, {OWNER}),
        ("PATCH", "/participants/{other}", {"role": "owner"}, {OWNER}),
        ("DELETE", "/participants/{other}", None, {OWNER, ADMIN}),
        ("DELETE", "/participants/{peer}", None, {OWNER}),
        ("DELETE", "/participants/{owner}", None, set()),
        ("DELETE", "", None, {OWNER}),
    ],
)
async def test_each_role_has_its_permissions_and_no_more(
    people: People, method: str, path: str, body: Any, allowed: set[int]
) -> None:
    talk, everyone = await cast(people)
    names = {"peer": everyone[PEER].id, "other": everyone[OTHER].id, "owner": everyone[OWNER].id}
    where = f"/conversations/{talk['id']}{path.format(**names)}"
    before = await everyone[OWNER].ask("GET", f"/conversations/{talk['id']}")
    for who, code in ((MEMBER, "FORBIDDEN"), (STRANGER, "NOT_FOUND")):
        assert (await everyone[who].refused(method, where, body)).code == code
    if ADMIN not in allowed:
        assert (await everyone[ADMIN].refused(method, where, body)).code == "FORBIDDEN"
    assert await everyone[OWNER].ask("GET", f"/conversations/{talk['id']}") == before
    for who in sorted(allowed, reverse=True)[:1]:
        status, answer = await everyone[who].request(method, where, body)
        assert status in (200, 204), answer


async def test_a_new_role_is_announced_and_takes_effect_immediately(people: People) -> None:
    talk, (owner, _, _, member, other, _) = await cast(people)
    desk, phone = await devices(owner, member)
    path = f"/conversations/{talk['id']}/participants"
    given = await owner.ask("PATCH", f"{path}/{member.id}", {"role": "admin"})
    assert given == participant(member.id, "admin")
    for device in (desk, phone):
        news = await device.hears("conversation:updated")
        assert participant(member.id, "admin") in news["participants"]
    assert (await member.request("DELETE", f"{path}/{other.id}"))[0] == 204
    await owner.ask("PATCH", f"{path}/{member.id}", {"role": "member"})
    refusal = await member.refused("PATCH", f"/conversations/{talk['id']}", {"name": "Mine"})
    assert refusal.code == "FORBIDDEN"
    refusal = await owner.refused("PATCH", f"{path}/{other.id}", {"role": "admin"})
    assert refusal.code == "NOT_FOUND"


async def test_there_is_always_one_owner(people: People) -> None:
    talk, (owner, admin, _, member, _, _) = await cast(people)
    path = f"/conversations/{talk['id']}/participants"
    refusal = await owner.refused("PATCH", f"{path}/{owner.id}", {"role": "member"})
    assert refusal.code == "CONFLICT"
    assert (await owner.ask("PATCH", f"{path}/{owner.id}", {"role": "owner"}))["role"] == "owner"

    # Two users are made the owner at the same time: one of them becomes it.
    answers = await asyncio.gather(
        *[
            owner.request("PATCH", f"{path}/{person.id}", {"role": "owner"})
            for person in (admin, member)
        ]
    )
    assert sorted(status for status, _ in answers) == [200, 403]
    heir = admin if answers[0][0] == 200 else member
    assert await role_of(owner, talk, heir) == "owner"
    assert await role_of(owner, talk, owner) == "admin"
    seen = await owner.ask("GET", f"/conversations/{talk['id']}")
    assert [entry["role"] for entry in seen["participants"]].count("owner") == 1
    assert (await heir.request("DELETE", f"{path}/{owner.id}"))[0] == 204


async def test_an_owner_who_leaves_is_succeeded_by_the_longest_standing(people: People) -> None:
    alice, bob, carol, dave, erin = people("alice", "bob", "carol", "dave", "erin")
    talk = await alice.group()
    path = f"/conversations/{talk['id']}/participants"
    for person, role in ((bob, "member"), (carol, "admin"), (dave, "admin"), (erin, "member")):
        await alice.ask("POST", path, {"userIds": [person.id], "role": role})
        await asyncio.sleep(0.002)  # the order of joining has a resolution of 1 ms
    phone = await erin.connect()

    succession = [(alice, carol), (carol, dave), (dave, bob), (bob, erin)]
    for leaving, heir in succession:
        assert await leaving.request("DELETE", f"{path}/{leaving.id}") == (204, None)
        assert (await phone.hears("participant:removed"))["userId"] == leaving.id
        news = await phone.hears("conversation:updated")
        roles = {entry["userId"]: entry["role"] for entry in news["participants"]}
        assert roles[heir.id] == "owner"
        assert list(roles.values()).count("owner") == 1
        assert await role_of(erin, talk, heir) == "owner"
        assert (await leaving.refused("GET", f"/conversations/{talk['id']}")).code == "NOT_FOUND"

    # When the last one leaves, the conversation is deleted.
    assert await erin.request("DELETE", f"{path}/{erin.id}") == (204, None)
    assert await phone.hears("conversation:removed") == {"conversationId": talk["id"]}
    assert (await erin.refused("GET", f"/conversations/{talk['id']}")).code == "NOT_FOUND"


async def test_a_member_who_leaves_changes_no_role(people: People) -> None:
    talk, (owner, admin, _, member, other, _) = await cast(people)
    desk, phone = await devices(owner, member)
    path = f"/conversations/{talk['id']}/participants"
    assert await member.request("DELETE", f"{path}/{member.id}") == (204, None)
    assert await phone.hears("conversation:removed") == {"conversationId": talk["id"]}
    assert (await desk.hears("participant:removed"))["userId"] == member.id
    assert await desk.all_heard("conversation:updated") == []
    assert await role_of(other, talk, owner) == "owner"
    assert await role_of(other, talk, admin) == "admin"


async def test_when_all_leave_at_the_same_time_nobody_is_left(people: People) -> None:
    talk, everyone = await cast(people)
    inside = everyone[:STRANGER]
    path = f"/conversations/{talk['id']}/participants"
    answers = await asyncio.gather(
        *[person.request("DELETE", f"{path}/{person.id}") for person in inside]
    )
    assert [status for status, _ in answers] == [204] * 5
    for person in inside:
        assert (await person.refused("GET", f"/conversations/{talk['id']}")).code == "NOT_FOUND"
        assert (await person.ask("GET", "/conversations"))["items"] == []
