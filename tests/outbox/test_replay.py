"""Replay of past events."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from chatserver.clock import iso, now
from chatserver.outbox.endpoints import partition_of, slot_of
from chatserver.outbox.pending import ordering_key_of
from tests.support.endpoints_without_relay import WEEK, Opener, talk_of


async def test_an_event_is_replayed_to_the_endpoints_of_its_type(
    idle_outbox: Opener, crm: dict[str, str]
) -> None:
    outbox = await idle_outbox(**crm)
    _, _, (said,) = await talk_of(outbox, "Hello")
    assert len(await outbox.deliver("default")) == 2
    (message,) = await outbox.deliver("crm")
    assert message == f"evt_{said['id']}"
    rings = await outbox.wakeups()
    for _ in range(2):  # an event that is already due is not due twice
        assert await outbox.replay(ids=[message]) == {"replayed": 1, "gone": 0, "nextCursor": None}
        assert await outbox.due("default") == await outbox.due("crm") == [message]
        record = await outbox.mongo.log.find_one({"_id": said["id"]})
        partition = partition_of(ordering_key_of(said["id"]))
        assert sorted(record["due"]) == [
            slot_of(endpoint, partition) for endpoint in ("crm", "default")
        ]
        assert "expiresAt" not in record  # otherwise the message would be deleted with it
    assert await outbox.wakeups() == rings + 2
    await outbox.deliver("default")
    await outbox.deliver("crm")
    await outbox.replay(ids=[message], endpoint="crm")
    assert (await outbox.due("default"), await outbox.due("crm")) == ([], [message])


async def test_an_unknown_event_is_not_found(idle_outbox: Opener) -> None:
    outbox = await idle_outbox()
    alice, _, (said,) = await talk_of(outbox, "Hello")
    known = f"evt_{said['id']}"
    await outbox.deliver("default")
    await alice.ask("DELETE", f"/messages/{said['id']}?scope=self")
    hidden = await outbox.mongo.log.find_one({"kind": "hide"})
    assert hidden
    for unknown in ("evt_nonsense", "evt_", said["id"], f"evt_{hidden['_id']}", known + "0"):
        refusal = await outbox.refused("POST", "/replay", {"ids": [known, unknown]})
        assert refusal == (404, "NOT_FOUND", [])
    assert await outbox.due("default") == []
    assert await outbox.replay(type="message.deleted") == {
        "replayed": 0,
        "gone": 0,
        "nextCursor": None,
    }


async def test_a_whole_conversation_is_replayed_in_order(idle_outbox: Opener) -> None:
    outbox = await idle_outbox()
    alice, talk, said = await talk_of(outbox, "One", "Two")
    await talk_of(outbox, "Elsewhere")
    carol = outbox.people("carol")
    await alice.ask("POST", f"/conversations/{talk['id']}/participants", {"userIds": [carol.id]})
    await alice.ask("PATCH", f"/messages/{said[1]['id']}", {"content": "2"})
    before = await outbox.deliver("default")
    of_talk = [event_id for event_id in before if talk["id"] in event_id]
    assert len(of_talk) == 5
    await asyncio.sleep(0.01)
    done = await outbox.replay(conversationId=talk["id"])
    assert done == {"replayed": 5, "gone": 0, "nextCursor": None}
    assert await outbox.due("default") == of_talk
    for pending in await outbox.pending("default"):
        # Outbox records are kept for another week. Log entries do not expire.
        left = pending.doc.get("expiresAt", now() + WEEK) - now()
        assert ("expiresAt" in pending.doc) == (pending.collection == "outbox")
        assert WEEK - timedelta(seconds=5) < left <= WEEK


async def test_replayed_events_of_a_deleted_conversation_are_kept_for_another_week(
    idle_outbox: Opener,
) -> None:
    outbox = await idle_outbox()
    alice, talk, (said,) = await talk_of(outbox, "Hello")
    await alice.ask("PATCH", f"/messages/{said['id']}", {"content": "Hello!"})
    await alice.ask("DELETE", f"/conversations/{talk['id']}")
    events = await outbox.deliver("default")
    entries = {"conversationId": talk["id"]}
    await outbox.mongo.log.update_many(entries, {"$set": {"expiresAt": now() + timedelta(hours=1)}})
    edit = events[2]
    assert await outbox.replay(ids=[edit]) == {"replayed": 1, "gone": 0, "nextCursor": None}
    left = {
        f"evt_{doc['_id']}": doc["expiresAt"] - now() > timedelta(days=6)
        async for doc in outbox.mongo.log.find(
            {**entries, "kind": {"$in": ["message", "edit", "end"]}}
        )
    }
    # The message is kept with its edit, whose webhook contains the text.
    assert left == {events[1]: True, edit: True, events[3]: False}


async def test_events_are_selected_by_type_and_time(
    idle_outbox: Opener, crm: dict[str, str]
) -> None:
    outbox = await idle_outbox(**crm)
    _, talk, said = await talk_of(outbox, "One")
    await asyncio.sleep(0.02)
    middle = now()
    await asyncio.sleep(0.02)
    _, later, more = await talk_of(outbox, "Two")
    ids = {message["id"]: f"evt_{message['id']}" for message in (*said, *more)}

    async def chosen(**selection: Any) -> list[str]:
        await outbox.deliver("default")
        await outbox.deliver("crm")
        await outbox.replay(**selection)
        return await outbox.due("default")

    messages = sorted(ids.values())
    assert await chosen(type="message.created") == messages
    assert await outbox.due("crm") == messages
    assert await chosen(type="message.created", since=iso(middle)) == [ids[more[0]["id"]]]
    assert await chosen(type="message.created", since=talk["createdAt"], until=iso(middle)) == [
        ids[said[0]["id"]]
    ]
    assert len(await chosen(since=iso(middle))) == 2
    assert len(await chosen(since=iso(middle)[:-1] + "+00:00")) == 2
    assert len(await chosen(since=iso(middle + timedelta(hours=2))[:-1] + "+02:00")) == 2
    assert await chosen(since=iso(now() + timedelta(hours=1))) == []
    assert len(await chosen(type="conversation.created")) == 2
    assert await outbox.due("crm") == []
    assert await chosen(conversationId=later["id"], type="message.created") == [ids[more[0]["id"]]]
    assert (
        await chosen(conversationId=later["id"], since=talk["createdAt"], until=iso(middle)) == []
    )
    assert await chosen(conversationId="nowhere") == []


async def test_many_events_are_replayed_in_several_requests_and_each_once(
    idle_outbox: Opener,
) -> None:
    outbox = await idle_outbox()
    begin = datetime(2026, 1, 1)  # noqa: DTZ001
    talks = [f"{n:024x}" for n in range(40)]
    log_docs, outbox_docs = [], []
    for number in range(12_000):
        talk_id = talks[number % 40]
        # 1,500 in the first millisecond, then some 20 in each.
        at = begin + timedelta(milliseconds=max(0, number - 1500) // 20)
        if number % 3 == 0:
            record = {"_id": f"{talk_id}-{number:08x}.{number:08x}", "kind": "participant.added"}
            outbox_docs.append({**record, "lane": talk_id, "key": talk_id, "at": at, "data": "{}"})
        else:
            kind = "message" if number % 3 == 1 else "hide"
            log_docs.append(
                {
                    "_id": f"{talk_id}-{number:08x}",
                    "kind": kind,
                    "conversationId": talk_id,
                    "at": at,
                    "rev": number,
                }
            )
    await outbox.mongo.log.insert_many(log_docs)
    await outbox.mongo.outbox.insert_many(outbox_docs)

    async def calls(**selection: Any) -> list[int]:
        done = await outbox.replay(**selection)
        counts = [done["replayed"]]
        while done["nextCursor"]:
            done = await outbox.replay(**selection, cursor=done["nextCursor"])
            counts.append(done["replayed"])
        return counts

    counts = await calls(since=iso(begin), until=iso(begin + timedelta(days=1)))
    assert len(counts) >= 3
    assert sum(counts) == 8000
    due = await outbox.deliver("default")
    assert len(due) == 8000
    assert not await outbox.mongo.log.find_one({"kind": "hide", "due": {"$exists": True}})

    counts = await calls(
        since=iso(begin), until=iso(begin + timedelta(days=1)), type="message.created"
    )
    assert sum(counts) == len(await outbox.deliver("default")) == 4000
    counts = await calls(conversationId=talks[7])
    assert sum(counts) == len(await outbox.deliver("default")) == 200

    ran = await outbox.run(
        "replay", "--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"
    )
    assert (ran.code, ran.out) == (0, "8,000 events will be sent again.\n")
    assert "so far" in ran.err
    assert len(await outbox.due("default")) == 8000
