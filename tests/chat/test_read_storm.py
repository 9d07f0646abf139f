"""A whole group reads a message in the same second: everybody's mark is exact, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.conftest import Starter
from tests.support.comings_and_goings import arrive, crowd
from tests.support.exposition import samples, scrape
from tests.support.patience import slowness
from tests.support.people import People, devices
from tests.support.raw import Wire
from tests.support.servers import ChatServer

MEMBERS = 150


async def transactions(server: ChatServer) -> float:
    name = "chat_mongo_operation_seconds_count transaction"
    return samples(await scrape(server)).get(name, 0)


async def test_everybody_reads_a_message_at_once_while_others_talk(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start()
    async with crowd(server, MEMBERS) as (author, *readers):
        alice, bob = people_of(server)("alice", "bob")
        group, talk = await author.group(*readers), await alice.direct(bob)
        wires = await arrive(readers)
        desk, pen = await Wire.connect(alice), await Wire.connect(author)
        written = await (await pen.say(group, "Read this"))
        assert written is not None
        message = written["data"]["id"]
        before = await transactions(server)
        slowest = 0.0

        async def talk_meanwhile() -> None:
            nonlocal slowest
            while True:
                began = time.monotonic()
                answer = await (await desk.say(talk, "Meanwhile"))
                assert answer is not None
                assert answer["ok"]
                slowest = max(slowest, time.monotonic() - began)

        talking = asyncio.create_task(talk_meanwhile())
        asked = [
            # Every other one reads the whole conversation. A few mark what is not there.
            *[await wire.ask("message:read", {"messageId": message}) for wire in wires[::2]],
            *[
                await wire.ask("conversation:read", {"conversationId": group["id"]})
                for wire in wires[1::2]
            ],
            *[await wire.ask("message:read", {"messageId": message + "0"}) for wire in wires[:5]],
        ]
        answers = await asyncio.gather(*asked)
        talking.cancel()
        *read, a, b, c, d, e = answers
        assert all(answer and answer["ok"] for answer in read)
        refused = [answer and answer["error"]["code"] for answer in (a, b, c, d, e)]
        assert refused == ["NOT_FOUND"] * 5
        assert slowest < 1 * slowness()
        assert await transactions(server) - before < MEMBERS / 4, "marks share transactions"

        # Every acknowledged mark is stored, and every member received one notice of each reader.
        now = (await author.ask("GET", f"/messages/{message}/read?limit=200"))["items"]
        assert sorted(item["userId"] for item in now) == sorted(person.id for person in readers)
        for wire, person in zip(wires, readers, strict=True):
            await wire.until(lambda wire=wire: len(notices(wire)) >= len(readers))
            assert sorted(notices(wire)) == sorted(reader.id for reader in readers)
            path = f"/conversations/{group['id']}/unread-count"
            assert (await person.ask("GET", path))["count"] == 0
        told = {answer["data"]["userId"]: answer["data"]["readAt"] for answer in read if answer}
        assert {item["userId"]: item["readAt"] for item in now} == told


def notices(wire: Wire) -> list[str]:
    return [
        payload["userId"]
        for name, payload in wire.heard
        if name in ("message:read", "conversation:read")
    ]


async def test_marks_of_one_reader_that_arrive_together_add_up(people: People) -> None:
    """From many devices, and in any order: each message becomes read once."""
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, device = await devices(alice, bob)
    sent = [await desk.say(talk, f"{n}") for n in range(30)]
    marks = [bob.ask("PUT", f"/messages/{message['id']}/read") for message in sent[::-1]]
    both = [bob.ask("PUT", f"/messages/{message['id']}/read") for message in sent]
    answers = await asyncio.gather(*marks, *both)
    times = {answer["messageId"]: answer["readAt"] for answer in answers[:30]}
    assert times == {answer["messageId"]: answer["readAt"] for answer in answers[30:]}
    told = await device.all_heard("message:read")
    assert sorted(notice["messageId"] for notice in told) == sorted(times)
    unread = await bob.ask("GET", f"/conversations/{talk['id']}/unread-count")
    assert unread["count"] == 0
    for message in sent:
        (reader,) = (await alice.ask("GET", f"/messages/{message['id']}/read"))["items"]
        assert reader == {"userId": bob.id, "readAt": times[message["id"]]}
