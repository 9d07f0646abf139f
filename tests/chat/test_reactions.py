"""Reactions over sockets."""

from __future__ import annotations

from tests.support.people import People, devices


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
