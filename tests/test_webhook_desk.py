"""The operator looks at what waits for the Master Service, and has events sent again.

No relay runs but in the last test: what one would have done is recorded by the part of it that does so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chatserver.clock import iso, now
from chatserver.mongo import Mongo
from chatserver.outbox.endpoints import partition_of, slot_of, slots_of
from chatserver.outbox.pending import Pending, lane_of
from chatserver.outbox.records import Hold, Records

from .command import Ran, run
from .conftest import Starter
from .people import PATIENCE_S, People, Person, ask
from .receiver import Receiver
from .servers import INTERNAL_SECRET, ChatServer, free_port
from .shapes import A_TIME

CRM = '[crm]\nurl = "http://10.0.0.7/chat"\nsecret = "of-the-tests"\ntypes = ["message.created"]\n'
WEEK = timedelta(days=7)


class Desk:
    """A server with endpoints and without a relay, and the database under it."""

    def __init__(self, server: ChatServer, people: People, mongo: Mongo) -> None:
        self.server = server
        self.people = people
        self.mongo = mongo
        self.records = Records(mongo)

    async def status(self) -> dict[str, Any]:
        code, answer = await self.people.master("GET", "/webhooks")
        assert code == 200
        return answer

    async def endpoint(self, name: str) -> dict[str, Any]:
        return next(one for one in (await self.status())["endpoints"] if one["name"] == name)

    async def replay(self, **selection: Any) -> dict[str, Any]:
        code, answer = await self.people.master("POST", "/webhooks/replay", selection)
        assert code == 200, answer
        return answer

    async def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str, list[str]]:
        code, answer = await self.people.master(method, f"/webhooks{path}", body)
        error = answer["error"]
        return code, error["code"], list(error.get("details", ()))

    async def pending(self, name: str) -> list[Pending]:
        """What is due for an endpoint, in the order of its ids."""
        found = [
            Pending(one.name, doc)
            for one in (self.mongo.log, self.mongo.outbox)
            async for doc in one.find({"due": {"$in": slots_of(name)}})
        ]
        return sorted(found, key=lambda one: one.id)

    async def due(self, name: str) -> list[str]:
        """The ids of the events that are due."""
        return [f"evt_{one.id}" for one in await self.pending(name)]

    async def comes(self, name: str, type_: str) -> None:
        """An event of this type is due, or will be soon."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if type_ in map(type_of, await self.pending(name)):
                    return
                await asyncio.sleep(0.02)

    async def deliver(self, name: str) -> list[str]:
        """All that is due, as a relay would have delivered it."""
        due = await self.pending(name)
        await asyncio.gather(*[self.records.delivered(name, one, held_lane=None) for one in due])
        return [f"evt_{one.id}" for one in due]

    async def give_up(self, name: str, type_: str, error: str = "answered 410") -> list[str]:
        """All that is due of a type, as a relay would have given it up."""
        due = [one for one in await self.pending(name) if type_of(one) == type_]
        for one in due:
            await self.records.dead(name, one, 17, error)
        return [f"evt_{one.id}" for one in due]

    async def hold(self, name: str, one: Pending, error: str) -> None:
        lane = lane_of(one.id)
        at = now()
        hold = Hold(name, lane, partition_of(lane), at, 3, at + timedelta(seconds=4), error)
        await self.records.held(hold, one)

    async def rings(self) -> int:
        bell = await self.mongo.relays.find_one({"_id": "bell"})
        return bell["rings"] if bell else 0

    async def run(self, *words: str) -> Ran:
        return await run("webhooks", *words, **self.server.env)


def type_of(one: Pending) -> str:
    kind = one.doc["kind"]
    return {"message": "message.created", "edit": "message.updated"}.get(kind, kind)


Opener = Callable[..., Awaitable[Desk]]


@pytest_asyncio.fixture
async def desk_at(
    start: Starter, people_of: Callable[[ChatServer], People], mongo_url: str, tmp_path: Path
) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:

        async def open_desk(**settings: str) -> Desk:
            url = f"http://user:the-password@127.0.0.1:{free_port()}/hooks?the-key"
            server = await start(**{"WEBHOOK_URL": url, "WEBHOOK_RELAY": "off", **settings})
            mongo = Mongo(mongo_url, server.env["MONGO_DATABASE"])
            stack.push_async_callback(mongo.close)
            return Desk(server, people_of(server), mongo)

        yield open_desk


@pytest.fixture
def crm(tmp_path: Path) -> dict[str, str]:
    """The settings that add an endpoint which hears of new messages only."""
    file = tmp_path / "hooks.toml"
    file.write_text(CRM)
    return {"WEBHOOKS_FILE": str(file)}


async def talk_of(desk: Desk, *messages: str) -> tuple[Person, Any, list[Any]]:
    alice, bob = desk.people("alice", "bob")
    talk = await alice.group(bob)
    path = f"/conversations/{talk['id']}/messages"
    said = [await alice.ask("POST", path, {"content": one}) for one in messages]
    return alice, talk, said


# --- status -------------------------------------------------------------------------------------


async def test_nothing_waits_at_first(desk_at: Opener, crm: dict[str, str]) -> None:
    desk = await desk_at(**crm)
    port = desk.server.env["WEBHOOK_URL"].partition("127.0.0.1:")[2].partition("/")[0]
    quiet = {"pending": 0, "oldestPendingAt": None, "lag": 0.0, "failing": 0, "dead": 0}
    status = await desk.status()
    default, other = status["endpoints"]
    assert len(default.pop("types")) == 11
    url = f"http://127.0.0.1:{port}/hooks"
    shape = {"configured": True, "worst": [], **quiet}
    assert default == {"name": "default", "url": url, **shape}
    assert other == {
        "name": "crm",
        "url": "http://10.0.0.7/chat",
        "types": ["message.created"],
        **shape,
    }
    assert (status["countedUpTo"], status["relays"]) == (100_000, [])


async def test_each_endpoint_waits_for_what_it_wants(desk_at: Opener, crm: dict[str, str]) -> None:
    desk = await desk_at(**crm)
    alice, talk, said = await talk_of(desk, "One", "Two")
    await alice.ask("PATCH", f"/messages/{said[0]['id']}", {"content": "1"})
    await alice.ask("DELETE", f"/messages/{said[1]['id']}?scope=self")
    await alice.ask("POST", f"/messages/{said[0]['id']}/reactions", {"emoji": "👍"})
    default, other = (await desk.status())["endpoints"]
    # The conversation, two messages, an edit, a reaction; not what she hid from herself.
    assert (default["pending"], other["pending"]) == (5, 2)
    assert default["oldestPendingAt"] == talk["createdAt"]
    assert other["oldestPendingAt"] == said[0]["createdAt"]
    assert 0 < other["lag"] <= default["lag"] < 30
    await desk.deliver("crm")
    default, other = (await desk.status())["endpoints"]
    assert (default["pending"], other["pending"], other["oldestPendingAt"]) == (5, 0, None)


async def test_what_fails_is_shown_with_its_reason(desk_at: Opener) -> None:
    desk = await desk_at()
    heads = []
    for _ in range(7):
        _, talk, _ = await talk_of(desk)
        heads.append(talk)
    by_lane = {lane_of(one.id): one for one in await desk.pending("default")}
    for number, talk in enumerate(heads):
        await desk.hold("default", by_lane[talk["id"]], f"answered 50{number}")
    shown = await desk.endpoint("default")
    assert (shown["failing"], len(shown["worst"])) == (7, 5)
    first = shown["worst"][0]
    assert first == {
        "key": heads[0]["id"],
        "eventId": f"evt_{by_lane[heads[0]['id']].id}",
        "timestamp": heads[0]["createdAt"],
        "since": A_TIME,
        "attempts": 3,
        "nextAt": A_TIME,
        "error": "answered 500",
    }


async def test_only_relays_that_live_are_shown(desk_at: Opener) -> None:
    desk = await desk_at()
    soon = now() + timedelta(seconds=60)
    await desk.mongo.relays.insert_many(
        [
            {"_id": "here", "until": soon},
            {"_id": "gone", "until": now() - timedelta(seconds=1)},
            *({"_id": f"p{one:02d}", "owner": "here"} for one in range(9)),
            *({"_id": f"p{one:02d}", "owner": "gone"} for one in range(9, 16)),
            {"_id": "bell", "rings": 3},
        ]
    )
    relays = (await desk.status())["relays"]
    assert relays == [{"id": "here", "partitions": 9, "until": iso(soon)}]


# --- replay -------------------------------------------------------------------------------------


async def test_an_event_is_sent_again_to_whoever_wants_it(
    desk_at: Opener, crm: dict[str, str]
) -> None:
    desk = await desk_at(**crm)
    _, _, (said,) = await talk_of(desk, "Hello")
    assert len(await desk.deliver("default")) == 2
    (message,) = await desk.deliver("crm")
    assert message == f"evt_{said['id']}"
    rings = await desk.rings()
    for _ in range(2):  # what is due already is not due twice
        assert await desk.replay(ids=[message]) == {"replayed": 1, "gone": 0, "nextCursor": None}
        assert await desk.due("default") == await desk.due("crm") == [message]
        record = await desk.mongo.log.find_one({"_id": said["id"]})
        partition = partition_of(lane_of(said["id"]))
        assert sorted(record["due"]) == [slot_of(one, partition) for one in ("crm", "default")]
        assert "expiresAt" not in record  # or the message would vanish with it
    assert await desk.rings() == rings + 2
    await desk.deliver("default")
    await desk.deliver("crm")
    await desk.replay(ids=[message], endpoint="crm")
    assert (await desk.due("default"), await desk.due("crm")) == ([], [message])


async def test_an_event_that_there_is_not_is_not_found(desk_at: Opener) -> None:
    desk = await desk_at()
    alice, _, (said,) = await talk_of(desk, "Hello")
    known = f"evt_{said['id']}"
    await desk.deliver("default")
    await alice.ask("DELETE", f"/messages/{said['id']}?scope=self")
    hidden = await desk.mongo.log.find_one({"kind": "hide"})
    assert hidden
    for unknown in ("evt_nonsense", "evt_", said["id"], f"evt_{hidden['_id']}", known + "0"):
        refusal = await desk.refused("POST", "/replay", {"ids": [known, unknown]})
        assert refusal == (404, "NOT_FOUND", [])
    assert await desk.due("default") == []
    assert await desk.replay(type="message.deleted") == {
        "replayed": 0,
        "gone": 0,
        "nextCursor": None,
    }


async def test_a_whole_conversation_is_sent_again_in_its_order(desk_at: Opener) -> None:
    desk = await desk_at()
    alice, talk, said = await talk_of(desk, "One", "Two")
    await talk_of(desk, "Elsewhere")
    carol = desk.people("carol")
    await alice.ask("POST", f"/conversations/{talk['id']}/participants", {"userIds": [carol.id]})
    await alice.ask("PATCH", f"/messages/{said[1]['id']}", {"content": "2"})
    before = await desk.deliver("default")
    of_talk = [one for one in before if talk["id"] in one]
    assert len(of_talk) == 5
    await asyncio.sleep(0.01)
    done = await desk.replay(conversationId=talk["id"])
    assert done == {"replayed": 5, "gone": 0, "nextCursor": None}
    assert await desk.due("default") == of_talk
    for one in await desk.pending("default"):
        # The records that would expire have their week again; the log is the conversation itself.
        left = one.doc.get("expiresAt", now() + WEEK) - now()
        assert ("expiresAt" in one.doc) == (one.collection == "outbox")
        assert WEEK - timedelta(seconds=5) < left <= WEEK


async def test_the_events_of_an_ended_conversation_have_their_week_again(desk_at: Opener) -> None:
    desk = await desk_at()
    alice, talk, (said,) = await talk_of(desk, "Hello")
    await alice.ask("PATCH", f"/messages/{said['id']}", {"content": "Hello!"})
    await alice.ask("DELETE", f"/conversations/{talk['id']}")
    events = await desk.deliver("default")
    entries = {"conversationId": talk["id"]}
    await desk.mongo.log.update_many(entries, {"$set": {"expiresAt": now() + timedelta(hours=1)}})
    edit = events[2]
    assert await desk.replay(ids=[edit]) == {"replayed": 1, "gone": 0, "nextCursor": None}
    left = {
        f"evt_{doc['_id']}": doc["expiresAt"] - now() > timedelta(days=6)
        async for doc in desk.mongo.log.find(
            {**entries, "kind": {"$in": ["message", "edit", "end"]}}
        )
    }
    # With the edit its message, whose text it tells.
    assert left == {events[1]: True, edit: True, events[3]: False}


async def test_events_are_chosen_by_type_and_time(desk_at: Opener, crm: dict[str, str]) -> None:
    desk = await desk_at(**crm)
    _, talk, said = await talk_of(desk, "One")
    await asyncio.sleep(0.02)
    middle = now()
    await asyncio.sleep(0.02)
    _, later, more = await talk_of(desk, "Two")
    ids = {one["id"]: f"evt_{one['id']}" for one in (*said, *more)}

    async def chosen(**selection: Any) -> list[str]:
        await desk.deliver("default")
        await desk.deliver("crm")
        await desk.replay(**selection)
        return await desk.due("default")

    messages = sorted(ids.values())
    assert await chosen(type="message.created") == messages
    assert await desk.due("crm") == messages
    assert await chosen(type="message.created", since=iso(middle)) == [ids[more[0]["id"]]]
    assert await chosen(type="message.created", since=talk["createdAt"], until=iso(middle)) == [
        ids[said[0]["id"]]
    ]
    assert len(await chosen(since=iso(middle))) == 2
    assert len(await chosen(since=iso(middle)[:-1] + "+00:00")) == 2
    assert len(await chosen(since=iso(middle + timedelta(hours=2))[:-1] + "+02:00")) == 2
    assert await chosen(since=iso(now() + timedelta(hours=1))) == []
    assert len(await chosen(type="conversation.created")) == 2
    assert await desk.due("crm") == []
    assert await chosen(conversationId=later["id"], type="message.created") == [ids[more[0]["id"]]]
    assert (
        await chosen(conversationId=later["id"], since=talk["createdAt"], until=iso(middle)) == []
    )
    assert await chosen(conversationId="nowhere") == []


async def test_many_events_are_sent_again_bit_by_bit_and_each_once(desk_at: Opener) -> None:
    desk = await desk_at()
    begin = datetime(2026, 1, 1)  # noqa: DTZ001
    lanes = [f"{one:024x}" for one in range(40)]
    log, outbox = [], []
    for number in range(12_000):
        lane = lanes[number % 40]
        # 1,500 in the first millisecond, then some 20 in each.
        at = begin + timedelta(milliseconds=max(0, number - 1500) // 20)
        if number % 3 == 0:
            record = {"_id": f"{lane}-{number:08x}.{number:08x}", "kind": "participant.added"}
            outbox.append({**record, "lane": lane, "key": lane, "at": at, "data": "{}"})
        else:
            kind = "message" if number % 3 == 1 else "hide"
            log.append(
                {
                    "_id": f"{lane}-{number:08x}",
                    "kind": kind,
                    "conversationId": lane,
                    "at": at,
                    "rev": number,
                }
            )
    await desk.mongo.log.insert_many(log)
    await desk.mongo.outbox.insert_many(outbox)

    async def calls(**selection: Any) -> list[int]:
        done = await desk.replay(**selection)
        counts = [done["replayed"]]
        while done["nextCursor"]:
            done = await desk.replay(**selection, cursor=done["nextCursor"])
            counts.append(done["replayed"])
        return counts

    counts = await calls(since=iso(begin), until=iso(begin + timedelta(days=1)))
    assert len(counts) >= 3
    assert sum(counts) == 8000
    due = await desk.deliver("default")
    assert len(due) == 8000
    assert not await desk.mongo.log.find_one({"kind": "hide", "due": {"$exists": True}})

    counts = await calls(
        since=iso(begin), until=iso(begin + timedelta(days=1)), type="message.created"
    )
    assert sum(counts) == len(await desk.deliver("default")) == 4000
    counts = await calls(conversationId=lanes[7])
    assert sum(counts) == len(await desk.deliver("default")) == 200

    ran = await desk.run(
        "replay", "--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"
    )
    assert (ran.code, ran.out) == (0, "8,000 events will be sent again.\n")
    assert "so far" in ran.err
    assert len(await desk.due("default")) == 8000


# --- dead letters -------------------------------------------------------------------------------


async def test_dead_letters_are_listed_the_newest_first(
    desk_at: Opener, crm: dict[str, str]
) -> None:
    desk = await desk_at(**crm)
    alice, talk, _ = await talk_of(desk, "One", "Two", "Three")
    _, other, _ = await talk_of(desk, "Four")
    device = await alice.connect()
    await desk.deliver("crm")
    await desk.comes("default", "user.online")
    online = await desk.give_up("default", "user.online", "answered 400")
    gone = await desk.give_up("default", "message.created")
    assert len(gone) == 4

    async def listed(query: str = "") -> list[dict[str, Any]]:
        items, cursor = [], ""
        while True:
            code, page = await desk.people.master("GET", f"/webhooks/dead?{query}{cursor}")
            assert code == 200, page
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            cursor = f"&cursor={page['nextCursor']}"

    items = await listed()
    assert [one["id"] for one in items][-1:] == online
    assert sorted(one["id"] for one in items[:-1]) == gone
    died = [one["diedAt"] for one in items]
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
    of_talk = [one for one in items if one.get("conversationId") == talk["id"]]
    assert await listed(f"conversationId={talk['id']}&limit=2") == of_talk
    assert len(of_talk) == 3
    assert await listed("endpoint=crm") == []
    assert await listed("endpoint=default") == items
    assert [one["dead"] for one in (await desk.status())["endpoints"]] == [5, 0]
    await device.close()


async def test_a_dead_letter_that_is_sent_again_leaves_the_list(
    desk_at: Opener, crm: dict[str, str]
) -> None:
    desk = await desk_at(**crm)
    _, talk, said = await talk_of(desk, "One", "Two")
    _, other, _ = await talk_of(desk, "Three")
    await desk.give_up("default", "message.created")
    await desk.give_up("default", "conversation.created")
    await desk.give_up("crm", "message.created")

    async def dead() -> list[int]:
        return [one["dead"] for one in (await desk.status())["endpoints"]]

    assert await dead() == [5, 3]
    one = f"evt_{said[0]['id']}"
    assert (await desk.replay(ids=[one], dead=True, endpoint="crm"))["replayed"] == 1
    assert await dead() == [5, 2]
    assert (await desk.due("default"), await desk.due("crm")) == ([], [one])
    # It is a letter for the other one still, and not for this one any more.
    assert (await desk.replay(ids=[one], dead=True))["replayed"] == 1
    assert (await desk.due("default"), await desk.due("crm")) == ([one], [one])
    assert (await desk.refused("POST", "/replay", {"ids": [one], "dead": True}))[0] == 404

    assert (await desk.replay(conversationId=talk["id"], dead=True, endpoint="default")) == {
        "replayed": 2,
        "gone": 0,
        "nextCursor": None,
    }
    assert await dead() == [2, 2]
    assert (await desk.replay(type="message.created", dead=True))["replayed"] == 2
    assert await dead() == [1, 0]
    # Without `dead` as well: what is due again has not been given up.
    assert (await desk.replay(conversationId=other["id"]))["replayed"] == 2
    assert await dead() == [0, 0]
    assert len(await desk.due("default")) == 5


async def test_a_letter_whose_event_is_not_kept_any_more_says_so(desk_at: Opener) -> None:
    desk = await desk_at()
    await talk_of(desk, "Hello")
    (gone,) = await desk.give_up("default", "conversation.created")
    (there,) = await desk.give_up("default", "message.created")
    await desk.mongo.outbox.delete_one({"_id": gone.removeprefix("evt_")})
    assert await desk.replay(dead=True) == {"replayed": 1, "gone": 1, "nextCursor": None}
    assert await desk.due("default") == [there]
    assert (await desk.refused("POST", "/replay", {"ids": [gone], "dead": True}))[0] == 404


async def test_a_letter_is_kept_while_its_event_is_being_given_up(desk_at: Opener) -> None:
    """The relay writes the letter first and takes the event out of what is due after it."""
    desk = await desk_at()
    _, _, (said,) = await talk_of(desk, "Hello")
    await desk.give_up("default", "message.created")
    slot = slot_of("default", partition_of(lane_of(said["id"])))
    await desk.mongo.log.update_one({"_id": said["id"]}, {"$set": {"due": [slot]}})
    assert (await desk.replay(dead=True))["replayed"] == 1
    assert (await desk.endpoint("default"))["dead"] == 1


# --- forget -------------------------------------------------------------------------------------


async def test_an_endpoint_that_is_configured_no_more_can_be_forgotten(
    desk_at: Opener, crm: dict[str, str]
) -> None:
    desk = await desk_at(**crm)
    await talk_of(desk, "One", "Two", "Three")
    pending = await desk.pending("crm")
    await desk.hold("crm", pending[0], "answered 500")
    await desk.records.dead("crm", pending[2], 9, "answered 410")
    assert await desk.refused("DELETE", "/crm") == (409, "CONFLICT", [])
    assert await desk.refused("DELETE", "/nobody") == (404, "NOT_FOUND", [])
    await desk.server.stop()

    # What only it waited for expires when nobody does any more.
    slot = await desk.mongo.outbox.find_one_and_update(
        {}, {"$set": {"due": [slot_of("crm", 3)]}}, {"_id": 1}
    )
    desk = await desk_at()
    gone = await desk.endpoint("crm")
    assert (gone["configured"], gone["url"], gone["types"]) == (False, None, None)
    assert (gone["pending"], gone["failing"], gone["dead"]) == (3, 1, 1)
    assert await desk.refused("POST", "/replay", {"dead": True, "endpoint": "crm"}) == (
        400,
        "VALIDATION_FAILED",
        ["endpoint"],
    )
    assert (await desk.replay(dead=True))["replayed"] == 0

    code, answer = await desk.people.master("DELETE", "/webhooks/crm")
    assert (code, answer) == (200, {"dropped": 5, "more": False})
    assert [one["name"] for one in (await desk.status())["endpoints"]] == ["default"]
    assert len(await desk.due("default")) == 3
    freed = await desk.mongo.outbox.find_one(slot)
    assert "due" not in freed
    assert freed["expiresAt"] - now() > timedelta(days=6)
    async for doc in desk.mongo.log.find({}):
        assert "expiresAt" not in doc
    assert await desk.refused("DELETE", "/crm") == (404, "NOT_FOUND", [])


# --- what is not understood ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "field"),
    [
        ({}, "ids"),
        ({"endpoint": "default"}, "ids"),
        ({"dead": False}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": ["x"] * 201}, "ids"),
        ({"ids": [{"$gt": ""}]}, "ids.0"),
        ({"ids": ["evt_1"], "type": "message.created"}, "ids"),
        ({"until": "2026-11-21T09:30:00.000Z"}, "until"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-21T09:30:00"}, "since"),
        ({"since": "0001-01-01T00:00:00+23:00"}, "since"),
        ({"since": 1795276800}, "since"),
        ({"since": {"$gt": ""}}, "since"),
        ({"type": "message.read"}, "type"),
        ({"type": {"$ne": ""}}, "type"),
        ({"conversationId": {"$ne": ""}}, "conversationId"),
        ({"conversationId": ""}, "conversationId"),
        ({"dead": "yes"}, "dead"),
        ({"dead": 1}, "dead"),
        ({"dead": True, "endpoint": "nobody"}, "endpoint"),
        ({"dead": True, "endpoint": "a:b"}, "endpoint"),
        ({"dead": True, "endpoint": {"$ne": ""}}, "endpoint"),
        ({"type": "message.created", "cursor": "x"}, "cursor"),
        ({"type": "message.created", "cursor": {"$gt": ""}}, "cursor"),
        ({"type": "message.created", "limit": 5}, "limit"),
    ],
)
async def test_what_selects_nothing_is_refused_by_name(
    people: People, selection: dict[str, Any], field: str
) -> None:
    code, answer = await people.master("POST", "/webhooks/replay", selection)
    assert (code, answer["error"]["code"]) == (400, "VALIDATION_FAILED")
    assert list(answer["error"]["details"]) == [field]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=5.", "cursor"),
        ("cursor=999999999999999.x", "cursor"),
        ("type=x", "type"),
        ("endpoint=A", "endpoint"),
        ("endpoint[$ne]=a", "endpoint[$ne]"),
    ],
)
async def test_a_list_that_there_is_not_is_refused_by_name(
    people: People, query: str, field: str
) -> None:
    code, answer = await people.master("GET", f"/webhooks/dead?{query}")
    assert (code, list(answer["error"]["details"])) == (400, [field])


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/dead"), ("POST", "/replay"), ("DELETE", "/crm")],
)
async def test_the_desk_is_for_those_who_know_the_secret(
    people: People, method: str, path: str
) -> None:
    url = f"{people.server.rest}/api/webhooks{path}"
    for headers in ({}, {"X-Internal-Secret": "wrong"}):
        code, answer = await ask(people.session, method, url, None, headers)
        assert (code, answer["error"]["code"]) == (401, "UNAUTHENTICATED")
    alice = people("alice")
    assert (await alice.request(method, f"/webhooks{path}"))[0] == 401


# --- the command line ---------------------------------------------------------------------------


async def test_the_commands_do_the_same(desk_at: Opener, crm: dict[str, str]) -> None:
    desk = await desk_at(**crm)
    _, talk, said = await talk_of(desk, "One", "Two")
    held = (await desk.pending("default"))[0]
    await desk.hold("default", held, "answered [bold]503")
    ran = await desk.run("status")
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["endpoint", "url", "waiting", "oldest", "failing", "dead"]
    assert (lines[1][0], lines[1][2], lines[1][-2:]) == ("default", "3", ["1", "0"])
    assert (lines[2][0], lines[2][2]) == ("crm", "2")
    assert talk["id"] in ran.out
    assert "answered [bold]503" in ran.out
    assert ran.out.splitlines()[-1] == "Relays at work: none"
    for secret in ("the-password", "the-key", INTERNAL_SECRET):
        assert secret not in ran.out
    assert json.loads((await desk.run("status", "--json")).out)["countedUpTo"] == 100_000

    gone = await desk.give_up("crm", "message.created")
    ran = await desk.run("dead", "--limit", "1")
    assert "There are more" in ran.out
    ran = await desk.run("dead", "--endpoint", "crm", "--type", "message.created")
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == gone[::-1]
    found = json.loads((await desk.run("dead", "--conversation", talk["id"], "--json")).out)
    assert [one["id"] for one in found["items"]] == gone[::-1]
    assert (await desk.run("dead", "--conversation", "x")).out == "There are no dead letters.\n"

    ran = await desk.run("replay", "--id", gone[0], "--id", gone[1], "--dead", "--endpoint", "crm")
    assert (ran.code, ran.out) == (0, "2 events will be sent again.\n")
    assert await desk.due("crm") == gone
    await desk.deliver("crm")
    ran = await desk.run("replay", "--since", "1h", "--type", "message.created", "--json")
    assert json.loads(ran.out) == {"replayed": 2, "gone": 0}
    assert await desk.due("crm") == [f"evt_{one['id']}" for one in said]


async def test_the_commands_say_what_was_refused(desk_at: Opener, crm: dict[str, str]) -> None:
    desk = await desk_at(**crm)
    for words, code, says in (
        (["replay"], 2, "Say which events"),
        (["replay", "--endpoint", "crm"], 2, "Say which events"),
        (["replay", "--since", "soon"], 2, "--since: 'soon' is neither"),
        (["replay", "--since", "2026-21-11"], 2, "since: Must be a time such as"),
        (["replay", "--type", "x"], 2, "type: Must be one of message.created"),
        (["replay", "--id", "evt_1"], 1, "There is no such event"),
        (["replay", "--dead", "--endpoint", "x"], 2, "endpoint: No such endpoint is configured"),
        (["forget", "crm"], 1, "This endpoint is configured"),
        (["forget", "nobody"], 1, "Nothing is left of an endpoint of this name."),
        (["forget", "a/b"], 2, "endpoint: "),
        (["dead", "--endpoint", "A"], 2, "endpoint: "),
    ):
        ran = await desk.run(*words)
        assert (ran.code, ran.out) == (code, ""), words
        assert says in ran.err, words


async def test_the_commands_forget_too(desk_at: Opener, crm: dict[str, str]) -> None:
    desk = await desk_at(**crm)
    await talk_of(desk, "One", "Two")
    await desk.server.stop()
    desk = await desk_at()
    ran = await desk.run("status")
    assert "(not configured)" in ran.out
    ran = await desk.run("forget", "crm")
    assert ran.out == "crm is forgotten: 2 records and dead letters of it are gone.\n"
    assert "crm" not in (await desk.run("status")).out


async def test_without_a_server_the_commands_say_so(
    server: ChatServer, mongo_url: str, tmp_path: Path
) -> None:
    port = free_port()
    ran = await run("webhooks", "status", PORT=str(port), DATA_DIR=str(tmp_path))
    assert ran.code == 1
    assert ran.err.startswith(f"No chatserver answers at http://127.0.0.1:{port}: ")
    ran = await run("webhooks", "status", "--server", server.rest, DATA_DIR=str(tmp_path))
    assert ran.code == 1
    assert "does not take this INTERNAL_API_SECRET" in ran.err
    database = mongo_url.partition("/?")[0].replace("mongodb", "http")
    ran = await run("webhooks", "status", "--server", database, DATA_DIR=str(tmp_path))
    assert ran.code == 1
    assert "is no chatserver that has webhooks" in ran.err
    ran = await run("webhooks", "status", "--server", "nonsense", DATA_DIR=str(tmp_path))
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)


# --- with a relay -------------------------------------------------------------------------------


async def test_what_was_given_up_arrives_when_it_is_sent_again(desk_at: Opener) -> None:
    async with Receiver() as receiver:
        # It does not want messages, until somebody mends it.
        mended = asyncio.Event()
        receiver.answer = lambda post: (
            410 if post.event["type"] == "message.created" and not mended.is_set() else 200
        )
        desk = await desk_at(WEBHOOK_URL=receiver.url, WEBHOOK_RELAY="on")
        _, talk, said = await talk_of(desk, *"ABCDEFGH")
        async with asyncio.timeout(15):
            while True:
                shown = await desk.endpoint("default")
                if (shown["dead"], shown["pending"]) == (8, 0):
                    break
                await asyncio.sleep(0.05)
        assert [one["partitions"] for one in (await desk.status())["relays"]] == [16]
        assert [post.attempt for post in receiver.posts] == [1] * 9

        mended.set()
        ran = await desk.run("replay", "--dead")
        assert ran.out == "8 events will be sent again.\n"
        heard = receiver.by_key[talk["id"]]
        await receiver.until(lambda: len(heard) == 9)
        assert [one["data"]["content"] for one in heard[1:]] == [*"ABCDEFGH"]
        assert [one["id"] for one in heard[1:]] == [f"evt_{one['id']}" for one in said]
        assert (await desk.endpoint("default"))["dead"] == 0

        before = len(receiver.posts)
        ran = await desk.run("replay", "--conversation", talk["id"])
        assert ran.out == "9 events will be sent again.\n"
        await receiver.until(lambda: receiver.repeats == 9)
        again = [post.event for post in receiver.posts[before:]]
        assert [one["id"] for one in again] == [one["id"] for one in heard]
