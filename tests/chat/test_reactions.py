"""Reactions over sockets."""

from __future__ import annotations

from typing import Any

import pymongo

from tests.support.people import People, devices

HEART, PLAIN_HEART, TEXT_HEART = "❤\ufe0f", "❤", "❤\ufe0e"


async def test_a_reaction_is_counted_and_announced_once(people: People) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    group = await alice.group(bob, carol)
    desk, tablet, phone, laptop, outside = await devices(alice, alice, bob, carol, stranger)
    sent = await desk.say(group, "Party on Friday?")

    like = {"messageId": sent["id"], "emoji": "👍"}
    by_bob = {**like, "conversationId": group["id"], "userId": bob.id, "totalCount": 1}
    assert await phone.do("reaction:add", like) == by_bob
    by_carol = {**by_bob, "userId": carol.id, "totalCount": 2}
    assert await laptop.do("reaction:add", like) == by_carol
    dance = {"messageId": sent["id"], "emoji": ":dancer:"}
    dances = {**by_bob, "emoji": ":dancer:"}
    assert await phone.do("reaction:add", dance) == dances
    # A repeat changes nothing and is not announced.
    assert await phone.do("reaction:add", like) == {**by_bob, "totalCount": 2}

    added = [{**by_bob, "rev": 2}, {**by_carol, "rev": 3}, {**dances, "rev": 4}]
    for device in (desk, tablet, phone, laptop):
        assert await device.all_heard("reaction:added") == added
    assert await outside.all_heard("reaction:added") == []
    message = await alice.ask("GET", f"/messages/{sent['id']}")
    assert message["rev"] == 4
    assert message["reactions"] == [
        {"emoji": "👍", "count": 2, "userIds": [bob.id, carol.id]},
        {"emoji": ":dancer:", "count": 1, "userIds": [bob.id]},
    ]


async def test_a_removed_reaction_is_announced_once(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    desk, phone, outside = await devices(alice, bob, stranger)
    sent = await desk.say(talk, "Party on Friday?")
    like = {"messageId": sent["id"], "emoji": "👍"}
    await desk.do("reaction:add", like)
    await phone.do("reaction:add", like)

    gone = {**like, "conversationId": talk["id"], "userId": alice.id, "totalCount": 1}
    assert await desk.do("reaction:remove", like) == gone
    assert await desk.do("reaction:remove", like) == gone
    never = {**gone, "emoji": "🎉", "totalCount": 0}
    assert await desk.do("reaction:remove", {**like, "emoji": "🎉"}) == never
    for device in (desk, phone):
        assert await device.all_heard("reaction:removed") == [{**gone, "rev": 4}]
    last = {**gone, "userId": bob.id, "totalCount": 0}
    assert await phone.do("reaction:remove", like) == last
    assert await desk.hears("reaction:removed", lambda payload: payload["rev"] == 5) == {
        **last,
        "rev": 5,
    }
    assert (await alice.ask("GET", f"/messages/{sent['id']}"))["reactions"] == []
    assert await outside.all_heard("reaction:removed") == []


async def test_reactions_over_rest_are_announced_like_all_others(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await devices(alice, bob)
    sent = await desk.say(talk, "Hello")
    path = f"/messages/{sent['id']}/reactions"
    added = await bob.ask("POST", path, {"emoji": "👍🏽"})
    removed = await bob.ask("DELETE", f"{path}/👍🏽")
    assert added == {
        "messageId": sent["id"],
        "conversationId": talk["id"],
        "emoji": "👍🏽",
        "userId": bob.id,
        "totalCount": 1,
    }
    for device in (desk, phone):
        assert await device.all_heard("reaction:added") == [{**added, "rev": 2}]
        assert await device.all_heard("reaction:removed") == [{**removed, "rev": 3}]


async def test_a_reaction_that_is_no_emoji_is_refused(people: People) -> None:
    alice, bob, stranger = people("alice", "bob", "stranger")
    talk = await alice.direct(bob)
    desk, phone, outside = await devices(alice, bob, stranger)
    sent = await desk.say(talk, "Hello")
    react = {"messageId": sent["id"]}
    for wrong in ("", "a", "👍👍", ":not a code:", "x" * 33, 1, None, {"$gt": ""}):
        refusal = await phone.refused("reaction:add", {**react, "emoji": wrong})
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["emoji"])
    for right in ("👍", "👍🏽", "❤️", "🇩🇪", "👩‍👩‍👧‍👦", "1️⃣", ":thumbs_up:", ":+1:"):
        assert (await phone.do("reaction:add", {**react, "emoji": right}))["totalCount"] == 1
    for event in ("reaction:add", "reaction:remove"):
        assert (await outside.refused(event, {**react, "emoji": "👍"})).code == "NOT_FOUND"
    missing = await phone.refused("reaction:add", {"messageId": sent["id"] + "0", "emoji": "👍"})
    assert missing.code == "NOT_FOUND"
    assert len(await desk.all_heard("reaction:added")) == 8


async def test_the_forms_of_an_emoji_are_one_reaction(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, phone, laptop = await devices(alice, bob, carol)
    sent = await desk.say(group, "Cake?")
    for device, emoji, count in (
        (desk, HEART, 1),
        (phone, PLAIN_HEART, 2),
        (laptop, TEXT_HEART, 3),
    ):
        answer = await device.do("reaction:add", {"messageId": sent["id"], "emoji": emoji})
        assert (answer["emoji"], answer["totalCount"]) == (HEART, count)
    # A repeat in another form changes nothing.
    answer = await desk.do("reaction:add", {"messageId": sent["id"], "emoji": PLAIN_HEART})
    assert (answer["emoji"], answer["totalCount"]) == (HEART, 3)
    path = f"/messages/{sent['id']}/reactions"
    everybody = {"emoji": HEART, "count": 3, "userIds": [alice.id, bob.id, carol.id]}
    assert await bob.ask("GET", path) == {"items": [everybody], "nextCursor": None}
    assert (await bob.ask("GET", f"/messages/{sent['id']}"))["reactions"] == [everybody]

    for person, emoji, count in ((alice, PLAIN_HEART, 2), (bob, TEXT_HEART, 1), (carol, HEART, 0)):
        answer = await person.ask("DELETE", f"{path}/{emoji}")
        assert (answer["emoji"], answer["totalCount"]) == (HEART, count)
    assert await bob.ask("GET", path) == {"items": [], "nextCursor": None}
    for event, counts in (("reaction:added", [1, 2, 3]), ("reaction:removed", [2, 1, 0])):
        told = await laptop.all_heard(event)
        assert [(each["emoji"], each["totalCount"]) for each in told] == [
            (HEART, count) for count in counts
        ]


async def test_forms_that_were_stored_apart_are_one_reaction(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    group = await alice.group(bob, carol)
    desk, phone, laptop = await devices(alice, bob, carol)
    sent = await desk.say(group, "Cake?")
    like = {"messageId": sent["id"], "emoji": "👍"}
    await desk.do("reaction:add", like)
    # As a version stored it that took the forms for different emoji.
    stored = [
        {"emoji": PLAIN_HEART, "users": [bob.id, carol.id]},
        {"emoji": "👍", "users": [alice.id]},
        {"emoji": HEART, "users": [alice.id, bob.id]},
    ]
    settings = alice.server.env
    with pymongo.MongoClient[Any](settings["MONGO_URL"]) as mongo:
        log = mongo[settings["MONGO_DATABASE"]].log
        log.update_one({"_id": sent["id"]}, {"$set": {"reactions": stored}})
    thumb = {"emoji": "👍", "count": 1, "userIds": [alice.id]}

    async def hearts() -> list[str]:
        shown = (await bob.ask("GET", f"/messages/{sent['id']}"))["reactions"]
        assert shown[-1] == thumb
        assert all(
            (each["emoji"], each["count"]) == (PLAIN_HEART, len(each["userIds"]))
            for each in shown[:-1]
        )
        return [user_id for each in shown[:-1] for user_id in each["userIds"]]

    assert await hearts() == [bob.id, carol.id, alice.id]
    answer = await phone.do("reaction:remove", {**like, "emoji": HEART})
    assert (answer["emoji"], answer["totalCount"]) == (PLAIN_HEART, 2)
    assert await hearts() == [carol.id, alice.id]
    assert (await phone.do("reaction:add", {**like, "emoji": HEART}))["totalCount"] == 3
    for device, emoji in ((desk, PLAIN_HEART), (phone, PLAIN_HEART), (laptop, TEXT_HEART)):
        await device.do("reaction:remove", {**like, "emoji": emoji})
    assert await hearts() == []


async def test_a_shortcode_may_have_a_tone(people: People) -> None:
    alice, bob = people("alice", "bob")
    sent = await (await alice.connect()).say(await alice.direct(bob), "Cake?")
    path = f"/messages/{sent['id']}/reactions"
    codes = [":+1:", ":+1::skin-tone-3:", ":" + "x" * 30 + "::skin-tone-6:"]
    for code in codes:
        assert (await bob.ask("POST", path, {"emoji": code}))["emoji"] == code
    assert [each["emoji"] for each in (await bob.ask("GET", path))["items"]] == codes
    for wrong in (
        ":+1::skin-tone-7:",
        ":+1::tone:",
        ":+1::skin-tone-3::skin-tone-3:",
        "👍:skin-tone-3:",
    ):
        assert (await bob.request("POST", path, {"emoji": wrong}))[0] == 400
