"""Presence over REST."""

from __future__ import annotations

import asyncio

from tests.support.people import People, devices, presence
from tests.support.shapes import A_TIME


async def test_alice_sees_bob_come_and_go(people: People) -> None:
    alice, bob = people("alice", "bob")
    await alice.direct(bob)
    never = {"userId": bob.id, "status": "offline", "lastSeen": None}
    assert await alice.ask("GET", f"/users/{bob.id}/presence") == never
    phone, tablet = await devices(bob, bob)
    here = await presence(alice, bob.id, "online")
    assert here == {"userId": bob.id, "status": "online", "lastSeen": A_TIME}
    await tablet.close()
    await asyncio.sleep(0.8)  # longer than the grace period
    assert (await presence(alice, bob.id, "online"))["status"] == "online"
    await phone.close()
    # Within the grace period he is still online.
    assert (await alice.ask("GET", f"/users/{bob.id}/presence"))["status"] == "online"
    gone = await presence(alice, bob.id, "offline")
    assert gone == {"userId": bob.id, "status": "offline", "lastSeen": A_TIME}
    assert gone["lastSeen"] >= here["lastSeen"]


async def test_the_presence_of_all_in_a_conversation(people: People) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol)
    await bob.connect()
    await presence(alice, bob.id, "online")
    answer = await carol.ask("GET", f"/conversations/{group['id']}/presence")
    assert set(answer) == {"items"}
    assert {
        presence["userId"]: (presence["status"], presence["lastSeen"])
        for presence in answer["items"]
    } == {
        alice.id: ("offline", None),
        bob.id: ("online", A_TIME),
        carol.id: ("offline", None),
    }
    refusal = await stranger.refused("GET", f"/conversations/{group['id']}/presence")
    assert refusal.code == "NOT_FOUND"


async def test_a_user_with_no_conversation_in_common_looks_never_seen(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    await alice.direct(bob)
    await devices(stranger, bob, alice)
    await presence(alice, bob.id, "online")
    await presence(stranger, stranger.id, "online")
    await presence(alice, alice.id, "online")
    unknown = f"nobody-{alice.id}"
    for who in (stranger.id, unknown):
        never = {"userId": who, "status": "offline", "lastSeen": None}
        assert await alice.ask("GET", f"/users/{who}/presence") == never
    batch = await alice.ask(
        "POST", "/presence/batch", {"userIds": [stranger.id, bob.id, unknown, alice.id, bob.id]}
    )
    assert batch == {
        "items": [
            {"userId": stranger.id, "status": "offline", "lastSeen": None},
            {"userId": bob.id, "status": "online", "lastSeen": A_TIME},
            {"userId": unknown, "status": "offline", "lastSeen": None},
            {"userId": alice.id, "status": "online", "lastSeen": A_TIME},
        ]
    }
    # A request for presence does not create the user.
    assert (await people.master("GET", f"/users/{unknown}"))[0] == 404


async def test_a_batch_names_at_most_two_hundred(people: People) -> None:
    alice = people("alice")
    users = [f"user-{n}" for n in range(201)]
    answer = await alice.ask("POST", "/presence/batch", {"userIds": users[:200]})
    assert [presence["userId"] for presence in answer["items"]] == users[:200]
    refusal = await alice.refused("POST", "/presence/batch", {"userIds": users})
    assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["userIds"])
    assert await alice.ask("POST", "/presence/batch", {"userIds": []}) == {"items": []}


async def test_a_user_who_no_longer_shares_a_conversation_looks_never_seen(people: People) -> None:
    alice, bob = people("alice", "bob")
    group = await alice.group(bob)
    await bob.connect()
    await presence(alice, bob.id, "online")
    await alice.ask("DELETE", f"/conversations/{group['id']}/participants/{bob.id}")
    found = await alice.ask("GET", f"/users/{bob.id}/presence")
    assert found == {"userId": bob.id, "status": "offline", "lastSeen": None}
