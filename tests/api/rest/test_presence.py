"""Presence over REST."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

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
    path = f"/conversations/{group['id']}/presence"
    phone = await carol.connect()
    await presence(alice, carol.id, "online")
    off = [{"userId": person.id, "status": "offline", "lastSeen": None} for person in (alice, bob)]
    here = {"userId": carol.id, "status": "online", "lastSeen": A_TIME}
    whole = await bob.ask("GET", path)
    assert whole == {"items": [here, *off], "nextCursor": None, "onlineCount": 1}

    first = await bob.ask("GET", f"{path}?limit=1")
    assert (first["items"], first["onlineCount"]) == ([here], 1)
    second = await bob.ask("GET", f"{path}?limit=1&cursor={first['nextCursor']}")
    assert (second["items"], second["onlineCount"]) == (off[:1], 1)
    last = await bob.ask("GET", f"{path}?limit=1&cursor={second['nextCursor']}")
    assert last == {"items": off[1:], "nextCursor": None, "onlineCount": 1}
    # Bob comes online after the part of the list where he would be; Carol goes after hers.
    await bob.connect()
    await presence(alice, bob.id, "online")
    await phone.close()
    await presence(alice, carol.id, "offline")
    rest = await bob.ask("GET", f"{path}?cursor={first['nextCursor']}")
    assert [(item["userId"], item["status"]) for item in rest["items"]] == [
        (bob.id, "online"),
        (alice.id, "offline"),
        (carol.id, "offline"),
    ]
    assert rest["onlineCount"] == 1
    refusal = await stranger.refused("GET", path)
    assert refusal.code == "NOT_FOUND"


@pytest.mark.parametrize("size", [300, 6000])
async def test_the_presence_of_a_large_conversation(people: People, size: int) -> None:
    alice, *others = people("alice", *(f"p{n}" for n in range(8)))
    crowd = [f"crowd-{alice.id}-{n:04}" for n in range(size)]
    talk = await alice.group()
    for n in range(0, size, 1000):
        await alice.ask(
            "POST", f"/conversations/{talk['id']}/participants", {"userIds": crowd[n : n + 1000]}
        )
    await alice.ask(
        "POST",
        f"/conversations/{talk['id']}/participants",
        {"userIds": [person.id for person in others]},
    )
    strangers = people(*(f"s{n}" for n in range(3)))
    await devices(*others, *strangers)
    for person in (*others, *strangers):
        await presence(person, person.id, "online")
    path = f"/conversations/{talk['id']}/presence"
    answers = await asyncio.gather(*[alice.ask("GET", f"{path}?limit=5") for _ in range(20)])
    assert [answer["onlineCount"] for answer in answers] == [8] * 20
    listed: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = await alice.ask("GET", f"{path}?limit=200{cursor and f'&cursor={cursor}'}")
        listed += page["items"]
        cursor = page["nextCursor"]
    users = [item["userId"] for item in listed]
    assert users == [*sorted(person.id for person in others), alice.id, *crowd]
    assert [item["status"] for item in listed] == ["online"] * 8 + ["offline"] * (size + 1)
    assert all(item["lastSeen"] for item in listed[:8])
    if size == 300:
        await others[0].devices[0].close()
        await presence(others[0], others[0].id, "offline")
        # The answer is at most 10 s old.
        await asyncio.sleep(9.0)
        assert (await alice.ask("GET", path))["onlineCount"] == 7


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
