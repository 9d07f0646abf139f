"""Redis is killed, frozen or cut off, and nodes die: every connected client receives everything once, in
order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from tests.support.patience import slowness
from tests.support.people import People, Person
from tests.support.people_on_nodes import Spread
from tests.support.raw import Wire, history
from tests.support.redises import RedisServer
from tests.support.steady_talk import all_is_right, begin, end, heard_settles, repeat_refused

WITHIN_S = 10
"""When Redis is back, every client has everything within this time."""


async def killed_and_empty(redis: RedisServer) -> None:
    await redis.kill()
    await asyncio.sleep(1.0)
    await redis.start()


async def frozen(redis: RedisServer) -> None:
    redis.signal(signal.SIGSTOP)
    await asyncio.sleep(6.0)
    redis.signal(signal.SIGCONT)


async def hung_up_on(redis: RedisServer) -> None:
    for what in await redis.clients():
        await redis.kill_client(what)
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("fault", [killed_and_empty, frozen, hung_up_on])
async def test_no_client_misses_anything_while_redis_is(
    own_redis: RedisServer, everyone: People, fault: Callable[[RedisServer], Awaitable[None]]
) -> None:
    talk, listener, streams, changer, running = await begin(everyone)
    await asyncio.sleep(0.5)
    await fault(own_redis)
    await asyncio.sleep(0.5)
    await end(streams, running)
    await repeat_refused(streams)
    reader = listener.person
    for wire in [listener, *[stream.wire for stream in streams]]:
        await heard_settles(wire, reader, talk, WITHIN_S)
        await all_is_right(wire, reader, streams, changer, repeats_in_order=False)
        assert wire.slowest < 4.0 * slowness(), "sending does not wait for Redis"


async def test_messages_that_a_killed_node_could_not_announce_reach_the_others(
    own_nodes: Spread, everyone: People
) -> None:
    talk, listener, streams, _, running = await begin(everyone)
    await asyncio.sleep(0.5)
    (victim,) = [server for server in own_nodes.servers if server is streams[0].wire.person.server]
    victim.process.kill()
    await victim.process.wait()
    own_nodes.servers.remove(victim)
    await asyncio.sleep(0.5)
    await end(streams, running)
    here = [
        wire for wire in (listener, *[stream.wire for stream in streams]) if not wire.gone.is_set()
    ]
    assert here
    for wire in here:
        await heard_settles(wire, wire.person, talk, 30)
        whole = await history(wire.person, talk)
        assert [message["seq"] for message in whole] == list(range(1, len(whole) + 1))
        assert wire.told("message:new")[1:] == whole[1:]


async def test_a_member_removed_while_redis_is_down_receives_no_message(
    own_redis: RedisServer, own_nodes: Spread, everyone: People
) -> None:
    alice, bob, carol = everyone("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    desk, phone, tablet = [await Wire.connect(who) for who in (alice, bob, carol)]
    await (await desk.say(talk, "Before"))
    for wire in (phone, tablet):
        await wire.until(lambda wire=wire: wire.told("message:new"))
    await own_redis.kill()
    await alice.ask("DELETE", f"/conversations/{talk['id']}/participants/{bob.id}")
    # A sender on the node of the removed member, and senders on other nodes.
    for who in (Person(phone.person.server, alice.id, alice.session), alice, carol):
        await who.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Among us"})
    refused = await (await phone.say(talk, "Me too"))
    assert refused is not None
    assert refused["error"]["code"] == "NOT_FOUND"
    await own_redis.start()
    await phone.until(lambda: phone.told("conversation:removed"), WITHIN_S)
    await tablet.until(lambda: len(tablet.told("message:new")) == 4, WITHIN_S)
    await own_nodes.settled()
    await phone.caught_up()
    assert [told["content"] for told in phone.told("message:new")] == ["Before"]
    told = [name for name in tablet.names if name in ("message:new", "participant:removed")]
    assert told == ["message:new", "participant:removed"] + ["message:new"] * 3


async def test_changes_of_users_while_redis_is_down_are_caught_up(
    own_redis: RedisServer, own_nodes: Spread, everyone: People
) -> None:
    alice, bob, carol, dave = everyone("alice", "bob", "carol", "dave")
    desk, phone, tablet, watch = [await Wire.connect(who) for who in (alice, bob, carol, dave)]
    talk = await alice.group(dave)
    await watch.until(lambda: watch.told("conversation:new"))
    await own_redis.kill()
    new = await alice.group(bob)
    await alice.ask("POST", f"/conversations/{new['id']}/messages", {"content": "Welcome"})
    await alice.ask("POST", f"/conversations/{talk['id']}/participants", {"userIds": [carol.id]})
    status, _ = await everyone.master("DELETE", f"/users/{dave.id}")
    assert status == 204
    assert await watch.ended(WITHIN_S) is not None
    await phone.until(lambda: phone.told("conversation:new"), WITHIN_S)
    await tablet.until(lambda: tablet.told("conversation:joined"), WITHIN_S)
    await own_redis.start()
    await (await desk.say(new, "And now?"))
    await (await desk.say(talk, "And you?"))
    await phone.until(lambda: len(phone.told("message:new")) > 1, WITHIN_S)
    await tablet.until(lambda: tablet.told("message:new"), WITHIN_S)
    assert [told["content"] for told in phone.told("message:new")] == ["Welcome", "And now?"]
    assert [told["content"] for told in tablet.told("message:new")] == ["And you?"]


async def test_a_conversation_that_is_created_while_redis_is_down_is_followed_from_its_creation(
    own_redis: RedisServer, own_nodes: Spread, everyone: People
) -> None:
    alice, bob, carol = everyone("alice", "bob", "carol")
    desk, phone, tablet = [await Wire.connect(who) for who in (alice, bob, carol)]
    await own_redis.kill()
    expected: list[tuple[str, str]] = []
    for n in range(4):
        # At different moments between two catch-ups of the other nodes.
        new = await alice.group(bob)
        texts = [await (await desk.say(new, f"{text}")) for text in range(2)]
        await alice.ask("POST", f"/conversations/{new['id']}/participants", {"userIds": [carol.id]})
        await (await desk.say(new, "2"))
        assert all(texts)
        expected += [(new["id"], f"{text}") for text in range(3)]
        await asyncio.sleep(n * 0.3)
    await phone.until(lambda: len(phone.told("message:new")) >= len(expected), WITHIN_S)
    await own_redis.start()
    await own_nodes.settled()
    await phone.caught_up()
    await tablet.caught_up()
    heard = [(told["conversationId"], told["content"]) for told in phone.told("message:new")]
    assert sorted(heard) == sorted(expected)
    for earlier, later in pairwise(expected):
        assert earlier[0] != later[0] or heard.index(earlier) < heard.index(later)
    names = ("conversation:new", "message:new", "participant:added")
    told = [name for name in phone.names if name in names]
    assert told.count("conversation:new") == told.count("participant:added") == 4
    # A member who joined later receives the messages from then on.
    assert len(tablet.told("conversation:joined")) == 4
    assert "0" not in {told["content"] for told in tablet.told("message:new")}


async def test_the_same_send_at_the_same_moment_on_every_node_is_one_message(
    nodes: Spread, people: People
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    listener = await bob.connect()
    everywhere = [Person(server, alice.id, alice.session) for server in nodes.servers]
    wires = [await Wire.connect(person) for person in everywhere]
    for n in range(20):
        answers = await asyncio.gather(
            *[await wire.say(talk, f"{n}", f"once-{n}") for wire in wires]
        )
        assert len({answer["data"]["id"] for answer in answers if answer}) == 1
    heard = await listener.all_heard("message:new")
    assert [told["content"] for told in heard] == [f"{n}" for n in range(20)]
    assert [told["seq"] for told in heard] == list(range(1, 21))


async def test_the_same_pair_on_every_node_gets_one_conversation(
    nodes: Spread, people: People
) -> None:
    alice, bob = people("alice", "bob")
    everywhere = [Person(server, alice.id, alice.session) for server in nodes.servers]
    phone = await bob.connect()
    made = await asyncio.gather(*[person.direct(bob) for person in everywhere * 4])
    assert len({conversation["id"] for conversation in made}) == 1
    (new,) = await phone.all_heard("conversation:new")
    assert new["id"] == made[0]["id"]
