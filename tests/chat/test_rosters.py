"""Conversations with more participants than their view shows."""

from __future__ import annotations

from typing import Any

import pymongo

from tests.support.people import People, Person
from tests.support.shapes import seen_by

SHOWN = 100


async def all_pages(person: Person, path: str, query: str = "") -> list[Any]:
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await person.ask("GET", f"{path}?limit=37{query}{cursor and f'&cursor={cursor}'}")
        assert len(page["items"]) == 37 or page["nextCursor"] is None
        found += page["items"]
        cursor = page["nextCursor"]
    return found


async def test_a_view_shows_the_first_participants_and_counts_all(people: People) -> None:
    alice, bob, carol, *crowd = people("alice", "bob", "carol", *(f"p{n:03}" for n in range(248)))
    talk = await alice.group(carol, *crowd[:120], name="Big")
    path = f"/conversations/{talk['id']}"
    ids = [person.id for person in crowd[120:]]
    made = await alice.ask("POST", f"{path}/participants", {"userIds": ids})
    assert (made["participantCount"], made["isLarge"]) == (250, True)
    await alice.ask("POST", f"{path}/participants", {"userIds": [bob.id], "role": "admin"})
    # The last one of all.
    everybody = await all_pages(alice, f"{path}/participants")
    assert [row["role"] for row in everybody] == ["owner", "admin", *["member"] * 249]
    assert {row["userId"] for row in everybody} == {
        person.id for person in (alice, bob, carol, *crowd)
    }
    assert everybody == seen_by({"participants": everybody})["participants"]

    shown = everybody[:SHOWN]
    assert (await alice.ask("GET", path))["participants"] == shown
    last = crowd[-1]
    hers = await last.ask("GET", path)
    own = next(row for row in everybody if row["userId"] == last.id)
    assert hers["participants"] == [own, *shown[: SHOWN - 1]]
    assert (hers["participantCount"], hers["isLarge"]) == (251, True)
    (listed,) = (await last.ask("GET", "/conversations"))["items"]
    assert listed == {**hers, "unreadCount": 0}
    assert (await bob.ask("GET", path))["participants"][:2] == [everybody[1], everybody[0]]

    assert await all_pages(bob, f"{path}/participants", "&role=admin") == [everybody[1]]
    assert await all_pages(bob, f"{path}/participants", "&role=member") == everybody[2:]
    assert (await bob.refused("GET", f"{path}/participants?role=owner&cursor=member.1.x")).code == (
        "VALIDATION_FAILED"
    )

    # The owner leaves, and so do 50 members: 200 are not large.
    await alice.ask("DELETE", f"{path}/participants/{alice.id}")
    for person in crowd[:50]:
        await person.ask("DELETE", f"{path}/participants/{person.id}")
    now = await bob.ask("GET", path)
    assert (now["participantCount"], now["isLarge"]) == (200, False)
    assert now["participants"][0]["role"] == "owner", "the only admin inherits"


async def test_the_count_is_right_after_a_node_that_does_not_keep_it(people: People) -> None:
    """A node of an earlier version changes only the number of events."""
    alice, *crowd = people("alice", *(f"p{n:03}" for n in range(110)))
    talk = await alice.group(*crowd)
    path = f"/conversations/{talk['id']}"
    settings = people.server.env
    with pymongo.MongoClient[Any](settings["MONGO_URL"]) as client:
        database = client[settings["MONGO_DATABASE"]]
        database.participants.delete_one({"userId": crowd[0].id})
        database.conversations.update_one({"_id": talk["id"]}, {"$inc": {"events": 1}})
    for count in (110, 110, 109):
        if count == 109:
            await alice.ask("DELETE", f"{path}/participants/{crowd[1].id}")
        assert (await alice.ask("GET", path))["participantCount"] == count
