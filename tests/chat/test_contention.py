"""Writers on all nodes write to one conversation at the same time, without a pause."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from tests.support.database_proxy import Nodes
from tests.support.patience import slowness
from tests.support.people import Device, People, Person, Refused
from tests.support.people_on_nodes import Spread
from tests.support.redises import RedisServer

BUSY_S = 3.0
AT_ONCE = 12
"""Concurrent messages per device."""
MANY_AT_ONCE = 100
"""More messages than one batch takes."""


async def writing(everyone: People) -> tuple[list[Device], list[int]]:
    """Returns the writers and how many messages of each were acknowledged. A refusal raises."""
    alice, bob, carol = everyone("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    writers = [await person.connect() for person in (alice, bob, carol)]
    said = [0, 0, 0]
    until = time.monotonic() + BUSY_S

    async def write(number: int) -> None:
        while time.monotonic() < until:
            await writers[number].say(talk, f"{number}")
            said[number] += 1

    await asyncio.gather(*[write(number) for number in range(3) for _ in range(AT_ONCE)])
    return writers, said


async def in_order(writers: list[Device], said: list[int]) -> None:
    for device in writers:
        heard = await device.all_heard("message:new")
        assert [message["seq"] for message in heard] == list(range(1, sum(said) + 1))


async def test_no_writer_is_refused_or_starved_while_others_write_without_a_pause(
    everyone: People,
) -> None:
    writers, said = await writing(everyone)
    assert min(said) > max(said) / 4
    await in_order(writers, said)


async def test_no_writer_is_refused_while_redis_is_down(
    own_redis: RedisServer, everyone: People
) -> None:
    await own_redis.kill()
    writers, said = await writing(everyone)
    await own_redis.start()
    await in_order(writers, said)


async def test_a_user_who_is_removed_while_writing_stores_nothing_after_the_removal(
    everyone: People,
) -> None:
    """This holds on the node of the removal and on the others."""
    alice, bob, carol = everyone("alice", "bob", "carol")
    for _ in range(8):
        talk = await alice.group(bob, carol)
        listener = await carol.connect()
        writers = [await bob.connect() for _ in range(3)]
        flood = [
            asyncio.ensure_future(writers[n % 3].say(talk, f"{n}")) for n in range(3 * MANY_AT_ONCE)
        ]
        await listener.hears("message:new")
        await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{bob.id}")
        answers = await asyncio.gather(*flood, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        assert all(isinstance(answer, (dict, Refused)) for answer in answers)
        assert {answer.code for answer in refused} <= {"NOT_FOUND"}
        await listener.caught_up()
        names = [
            name for name, _ in listener.heard if name in {"message:new", "participant:removed"}
        ]
        assert names.index("participant:removed") == len(names) - 1
        assert names.count("message:new") == len(answers) - len(refused)
        for device in (listener, *writers):
            await device.close()


async def test_a_node_without_members_of_the_conversation_lets_the_others_take_turns(
    own_nodes: Spread, everyone: People
) -> None:
    alice, bob, carol = everyone("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    writers = [await person.connect() for person in (alice, bob)]
    (empty,) = [server for server in own_nodes.servers if server not in {alice.server, bob.server}]
    outside = Person(empty, carol.id, carol.session)
    said = [0, 0, 0]
    until = time.monotonic() + BUSY_S

    async def write(number: int) -> None:
        while time.monotonic() < until:
            if number < len(writers):
                await writers[number].say(talk, f"{number}")
            else:
                path = f"/conversations/{talk['id']}/messages"
                await outside.ask("POST", path, {"content": f"{number}"})
            said[number] += 1

    await asyncio.gather(*[write(number) for number in range(3) for _ in range(AT_ONCE)])
    # That node must read what the others receive from each other. It stores fewer messages, but gets its turns.
    assert min(said) > max(said) / 10
    await in_order(writers, said)


async def at_last(device: Device, talk: Any, text: str) -> Any:
    """Sends the message as often as it takes."""
    while True:
        try:
            return await device.say(talk, text, clientMessageId=text)
        except Refused as refusal:
            if refusal.code != "UNAVAILABLE":
                raise
            await asyncio.sleep(0.05)


async def test_a_node_whose_write_has_no_answer_settles_it_while_another_writes_without_a_pause(
    two: Nodes, session: aiohttp.ClientSession
) -> None:
    """The other node is nearer to the database, so it takes each next offset first."""
    alice, bob = People(two.near, session)("alice", "bob")
    talk = await alice.direct(bob)
    desk, far = await alice.connect(), await bob.at(two.far).connect()
    await far.say(talk, "First")
    stopping = False

    async def write() -> None:
        while not stopping:
            await desk.say(talk, "On and on")

    with two.proxy.slow(0.05):
        hold = two.proxy.hold("insert", "log", talk["id"])
        refusal = await far.refused(
            "message:send",
            {"conversationId": talk["id"], "content": "Late", "clientMessageId": "Late"},
        )
        assert refusal.code == "UNAVAILABLE"
        writing = [asyncio.create_task(write()) for _ in range(4)]
        hold.release()
        sent = await asyncio.wait_for(at_last(far, talk, "Late"), 10 * slowness())
        stopping = True
        await asyncio.gather(*writing)
    heard = await desk.all_heard("message:new")
    assert [message["seq"] for message in heard] == list(range(1, len(heard) + 1))
    assert [message for message in heard if message["content"] == "Late"] == [sent]
