"""Dead letters are stored, listed and replayed."""

from __future__ import annotations

import asyncio
from typing import Any

from chatserver.outbox.endpoints import partition_of, slot_of
from chatserver.outbox.pending import ordering_key_of
from tests.support.endpoints_without_relay import Opener, talk_of
from tests.support.patience import PATIENCE_S
from tests.support.receiver import Receiver
from tests.support.shapes import A_TIME


async def test_dead_letters_are_listed_newest_first(
    idle_outbox: Opener, crm: dict[str, str]
) -> None:
    outbox = await idle_outbox(**crm)
    alice, talk, _ = await talk_of(outbox, "One", "Two", "Three")
    _, other, _ = await talk_of(outbox, "Four")
    device = await alice.connect()
    await outbox.deliver("crm")
    await outbox.comes("default", "user.online")
    online = await outbox.give_up("default", "user.online", "answered 400")
    gone = await outbox.give_up("default", "message.created")
    assert len(gone) == 4

    async def listed(query: str = "") -> list[dict[str, Any]]:
        items, cursor = [], ""
        while True:
            code, page = await outbox.people.master("GET", f"/webhooks/dead?{query}{cursor}")
            assert code == 200, page
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            cursor = f"&cursor={page['nextCursor']}"

    items = await listed()
    assert [item["id"] for item in items][-1:] == online
    assert sorted(item["id"] for item in items[:-1]) == gone
    died = [item["diedAt"] for item in items]
    assert died == sorted(died, reverse=True)
    assert items[-1] == {
        "id": online[0],
        "type": "user.online",
        "endpoint": "default",
        "userId": alice.id,
        "timestamp": A_TIME,
        "diedAt": A_TIME,
        "attempts": 17,
        "error": "answered 400",
    }
    assert items[0]["conversationId"] in (talk["id"], other["id"])
    for limit in (1, 2, 3, 5, 200):
        assert await listed(f"limit={limit}") == items
    assert await listed("type=user.online") == items[-1:]
    of_talk = [item for item in items if item.get("conversationId") == talk["id"]]
    assert await listed(f"conversationId={talk['id']}&limit=2") == of_talk
    assert len(of_talk) == 3
    assert await listed("endpoint=crm") == []
    assert await listed("endpoint=default") == items
    assert [endpoint["dead"] for endpoint in (await outbox.status())["endpoints"]] == [5, 0]
    await device.close()


async def test_a_replayed_dead_letter_leaves_the_list(
    idle_outbox: Opener, crm: dict[str, str]
) -> None:
    outbox = await idle_outbox(**crm)
    _, talk, said = await talk_of(outbox, "One", "Two")
    _, other, _ = await talk_of(outbox, "Three")
    await outbox.give_up("default", "message.created")
    await outbox.give_up("default", "conversation.created")
    await outbox.give_up("crm", "message.created")

    async def dead() -> list[int]:
        return [endpoint["dead"] for endpoint in (await outbox.status())["endpoints"]]

    assert await dead() == [5, 3]
    event_id = f"evt_{said[0]['id']}"
    assert (await outbox.replay(ids=[event_id], dead=True, endpoint="crm"))["replayed"] == 1
    assert await dead() == [5, 2]
    assert (await outbox.due("default"), await outbox.due("crm")) == ([], [event_id])
    # The other endpoint keeps its dead letter; this one has none left.
    assert (await outbox.replay(ids=[event_id], dead=True))["replayed"] == 1
    assert (await outbox.due("default"), await outbox.due("crm")) == ([event_id], [event_id])
    assert (await outbox.refused("POST", "/replay", {"ids": [event_id], "dead": True}))[0] == 404

    assert (await outbox.replay(conversationId=talk["id"], dead=True, endpoint="default")) == {
        "replayed": 2,
        "gone": 0,
        "nextCursor": None,
    }
    assert await dead() == [2, 2]
    assert (await outbox.replay(type="message.created", dead=True))["replayed"] == 2
    assert await dead() == [1, 0]
    # A replay without `dead` removes the dead letter, too: the event is due again.
    assert (await outbox.replay(conversationId=other["id"]))["replayed"] == 2
    assert await dead() == [0, 0]
    assert len(await outbox.due("default")) == 5


async def test_a_dead_letter_whose_event_is_no_longer_stored_is_counted_as_gone(
    idle_outbox: Opener,
) -> None:
    outbox = await idle_outbox()
    await talk_of(outbox, "Hello")
    (gone,) = await outbox.give_up("default", "conversation.created")
    (there,) = await outbox.give_up("default", "message.created")
    await outbox.mongo.outbox.delete_one({"_id": gone.removeprefix("evt_")})
    assert await outbox.replay(dead=True) == {"replayed": 1, "gone": 1, "nextCursor": None}
    assert await outbox.due("default") == [there]
    assert (await outbox.refused("POST", "/replay", {"ids": [gone], "dead": True}))[0] == 404


async def test_a_dead_letter_stays_while_its_event_is_due(idle_outbox: Opener) -> None:
    """While the event is due, its dead letter may be newer than the replay, so the replay keeps it."""
    outbox = await idle_outbox()
    _, _, (said,) = await talk_of(outbox, "Hello")
    await outbox.give_up("default", "message.created")
    slot = slot_of("default", partition_of(ordering_key_of(said["id"])))
    await outbox.mongo.log.update_one({"_id": said["id"]}, {"$set": {"due": [slot]}})
    assert (await outbox.replay(dead=True))["replayed"] == 1
    assert (await outbox.endpoint("default"))["dead"] == 1


async def test_a_replayed_dead_letter_is_delivered(idle_outbox: Opener) -> None:
    async with Receiver() as receiver:
        # The receiver refuses messages until it is repaired.
        mended = asyncio.Event()
        receiver.answer = lambda post: (
            410 if post.event["type"] == "message.created" and not mended.is_set() else 200
        )
        outbox = await idle_outbox(WEBHOOK_URL=receiver.url, WEBHOOK_RELAY="on")
        _, talk, said = await talk_of(outbox, *"ABCDEFGH")
        async with asyncio.timeout(PATIENCE_S):
            while True:
                shown = await outbox.endpoint("default")
                if (shown["dead"], shown["pending"]) == (8, 0):
                    break
                await asyncio.sleep(0.05)
        assert [relay["partitions"] for relay in (await outbox.status())["relays"]] == [16]
        assert [post.attempt for post in receiver.posts] == [1] * 9

        mended.set()
        ran = await outbox.run("replay", "--dead")
        assert ran.out == "8 events will be sent again.\n"
        heard = receiver.by_key[talk["id"]]
        await receiver.until(lambda: len(heard) == 9)
        assert [event["data"]["content"] for event in heard[1:]] == [*"ABCDEFGH"]
        assert [event["id"] for event in heard[1:]] == [f"evt_{event['id']}" for event in said]
        assert (await outbox.endpoint("default"))["dead"] == 0

        before = len(receiver.posts)
        ran = await outbox.run("replay", "--conversation", talk["id"])
        assert ran.out == "9 events will be sent again.\n"
        await receiver.until(lambda: receiver.repeats == 9)
        again = [post.event for post in receiver.posts[before:]]
        assert [event["id"] for event in again] == [event["id"] for event in heard]
