"""The project's own JavaScript client: what two users see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.chatters import Opener, opened, seqs, texts
from tests.support.people import People
from tests.support.servers import ChatServer

Starter = Callable[..., Awaitable[ChatServer]]
PeopleOf = Callable[[ChatServer], People]


TRANSPORTS: dict[str, dict[str, Any]] = {
    "websocket": {},
    "polling": {"socket": {"transports": ["polling"]}},
    "upgrade": {"forceWebSocket": False},
}


@pytest.mark.parametrize("options", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_two_people_talk(people: People, chatter: Opener, options: dict[str, Any]) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await asyncio.gather(chatter(alice, **options), chatter(bob, **options))
    await asyncio.gather(opened(desk, talk), opened(phone, talk))

    # The message is in the list immediately, and keeps its key when it is acknowledged.
    await desk.do("record", talk)
    await desk.says(talk, "Hello, Bob")
    seen = await desk.sees(talk, lambda snapshot: seqs(snapshot) == [1])
    recorded = await desk.do("recorded", talk)
    (key, first_seq, first_state) = recorded[0][0]
    assert (first_seq, first_state) == (None, "pending")
    assert {line[0][0] for line in recorded} == {key}
    assert recorded[-1] == [[key, 1, "sent"]]
    assert seen["messages"][0]["senderId"] == alice.id

    seen = await phone.sees(
        talk, lambda snapshot: seqs(snapshot) == [1] and snapshot["conversations"]
    )
    first = seen["messages"][0]
    (listed,) = seen["conversations"]
    assert (listed["unreadCount"], listed["lastMessage"]["content"]) == (1, "Hello, Bob")
    await phone.do("react", talk, first["id"], "👋")
    await phone.says(talk, {"content": "Hello, Alice", "replyTo": first["id"]})
    await desk.do("edit", talk, first["id"], "Hello, dear Bob")
    await phone.do("markRead", talk)
    for device in (desk, phone):
        seen = await device.sees(
            talk,
            lambda seen: texts(seen) == ["Hello, dear Bob", "Hello, Alice"] and _told_all(seen),
        )
        assert seen["messages"][0]["reactions"] == [
            {"emoji": "👋", "count": 1, "userIds": [bob.id]}
        ]
        assert seen["messages"][1]["replyTo"] == first["id"]
        assert bob.id in dict(seen["marks"])
    await phone.sees(talk, lambda seen: seen["conversations"][0]["unreadCount"] == 0)
    await desk.do("unreact", talk, first["id"], "👋")
    await phone.do("unreact", talk, first["id"], "👋")
    await desk.do("delete", talk, first["id"])
    seen = await phone.sees(talk, lambda seen: seen["messages"][0]["isDeleted"])
    assert seen["messages"][0]["content"] == ""
    assert (await desk.look(talk))["messages"][0]["reactions"] == []
    assert desk.told == phone.told == []
    assert [state["status"] for state in desk.states] == ["connecting", "online"]


def _told_all(seen: Any) -> bool:
    return bool(seen["messages"][0]["reactions"]) and bool(seen["marks"])


async def test_typing_is_sent_once_for_many_keys_and_stops_by_itself(
    start: Starter, people_of: PeopleOf, chatter: Opener
) -> None:
    server = await start(TYPING_TIMEOUT_S="6")
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    desk, phone = await chatter(alice), await chatter(bob)
    await asyncio.gather(opened(desk, talk), opened(phone, talk))

    await desk.begin("type", talk, {"ms": 500})
    assert (await phone.sees(talk, lambda snapshot: snapshot["typing"] == [alice.id]))[
        "recording"
    ] == []
    # The client stops it four seconds after the last key. The server alone would wait six seconds after the start.
    await phone.sees(talk, lambda snapshot: snapshot["typing"] == [])
    assert server.log.count('"typing:start"') == 1
    assert server.log.count('"typing:stop"') == 1

    await phone.do("recording", talk)
    await desk.sees(talk, lambda snapshot: snapshot["recording"] == [bob.id])
    await phone.says(talk, "Sent")
    await desk.sees(
        talk, lambda snapshot: snapshot["recording"] == [] and texts(snapshot) == ["Sent"]
    )


async def test_older_messages_are_loaded_page_by_page_while_others_change_them(
    people: People, chatter: Opener
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    device = await bob.connect()
    sent = [await device.say(talk, f"line {n}") for n in range(1, 131)]
    desk = await opened(await chatter(alice), talk)
    seen = await desk.look(talk)
    assert (seqs(seen), seen["hasOlder"]) == (list(range(81, 131)), True)

    loading = desk.begin("loadOlder", talk, [60])
    changes = [
        asyncio.create_task(
            device.do(
                "message:edit", {"messageId": message["id"], "content": f"{message['content']}!"}
            )
        )
        for message in sent
    ]
    await loading
    assert seqs(await desk.look(talk)) == list(range(21, 131))
    await asyncio.gather(*changes)
    await desk.do("loadOlder", talk)
    await desk.do("loadOlder", talk)
    seen = await desk.sees(talk, lambda snapshot: snapshot["messages"][-1]["content"].endswith("!"))
    assert texts(seen) == [f"line {n}!" for n in range(1, 131)]
    assert (seqs(seen), seen["hasOlder"]) == (list(range(1, 131)), False)
