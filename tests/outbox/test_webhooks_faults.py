"""Faults of receivers: no event is lost, and other keys and endpoints do not wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from tests.conftest import Starter
from tests.support.ledger import Ledger, ids, ledger_of
from tests.support.patience import PATIENCE_S, slowness
from tests.support.people import Device, People
from tests.support.receiver import (
    Post,
    Receiver,
    Reply,
    drip,
    hang_up,
    key_of,
    raw,
    redirect_to,
    stall,
    too_many,
)
from tests.support.servers import ChatServer

Of = Callable[[ChatServer], People]
QUICK = {
    "WEBHOOK_RETRY_FIRST_S": "0.05",
    "WEBHOOK_RETRY_MAX_S": "0.2",
    "WEBHOOK_TIMEOUT_S": "0.5",
}
HALF_A_BODY = b"HTTP/1.1 %s\r\nContent-Length: 1000\r\n\r\nhalf"


async def say(desk: Device, talks: list[Any], texts: int) -> None:
    """Send this many messages to each conversation, all conversations in parallel."""
    for n in range(texts):
        await asyncio.gather(*(desk.say(talk, f"{n}") for talk in talks))


def told(receiver: Receiver, talks: list[Any]) -> int:
    return sum(len(receiver.by_key[talk["id"]]) for talk in talks)


async def complete(ledger: Ledger, receiver: Receiver) -> None:
    """Every recorded event has arrived in order, and nothing is due or backing off."""
    await ledger.settled()
    assert ids(receiver.by_key) == await ledger.recorded()


async def test_each_event_arrives_in_order_whatever_the_receiver_does_first(
    start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver, Receiver() as elsewhere:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        alice, bob = people_of(server)("alice", "bob")
        first_comes: dict[str, Reply] = {
            "fails": 500,
            "is gone for a moment": 404,
            "stalls": stall,
            "stalls in its first line": raw(b"HTTP/1.1 2", stay=True),
            "never ends its headers": drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", every_s=0.1),
            "answers garbage": raw(b"\x00\xff what?\r\n\r\n"),
            "answers a status that is none": raw(b"HTTP/1.1 2000 OK\r\n\r\n"),
            "hangs up": hang_up,
            "closes in its headers": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
            "fails, and closes in its body": raw(HALF_A_BODY % b"500 No"),
            "redirects": redirect_to(elsewhere.url),
            "redirects and says GET": redirect_to(elsewhere.url, 303),
            "asks for the same again": raw(b"HTTP/1.1 100 Continue\r\n\r\n"),
        }
        replies: dict[str, Reply] = {}

        def answer(post: Post) -> Reply:
            if not replies:
                return 503
            reply = replies.get(key_of(post.event))
            # A receiver that closes a kept connection gets the request again immediately.
            return reply if reply is not None and post.attempt <= 2 else 200

        receiver.answer = answer
        talks = {name: await alice.group(bob, name=name) for name in first_comes}
        replies.update({talks[name]["id"]: reply for name, reply in first_comes.items()})
        desk = await alice.connect()
        await say(desk, list(talks.values()), 3)
        await receiver.until(lambda: told(receiver, list(talks.values())) == 4 * 13)
        async with ledger_of(server) as ledger:
            await complete(ledger, receiver)
            assert await ledger.dead() == {}
        for name, talk in talks.items():
            heard = receiver.by_key[talk["id"]]
            assert [event["data"].get("seq", 0) for event in heard] == [0, 1, 2, 3], name
            for event in heard:
                attempts = receiver.attempts(event["id"])
                assert len(attempts) >= 3, name
                assert {post.body for post in attempts} == {attempts[0].body}, name
        assert elsewhere.posts == []


async def test_a_2xx_counts_even_if_its_body_breaks_off(start: Starter, people_of: Of) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        alice, bob = people_of(server)("alice", "bob")
        receiver.answer = lambda post: raw(HALF_A_BODY % b"200 OK")
        talk = await alice.group(bob)
        await say(await alice.connect(), [talk], 3)
        await receiver.until(lambda: len(receiver.posts) >= 5)
        async with ledger_of(server) as ledger:
            await ledger.settled()
        assert [post.attempt for post in receiver.posts] == [1] * 5, "online, created, three said"


async def test_retry_after_delays_only_its_own_conversation(start: Starter, people_of: Of) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        alice, bob = people_of(server)("alice", "bob")
        desk = await alice.connect()
        # Enough failures in a row for the relay to take the receiver for down.
        slow = [await alice.group(bob, name="slow") for _ in range(15)]
        dated, free = await alice.group(bob), await alice.group(bob)
        await receiver.until(lambda: len(receiver.events) == 18)
        waits = {talk["id"] for talk in slow}

        def answer(post: Post) -> Reply:
            if post.attempt == 1 and key_of(post.event) in waits:
                return too_many("2")
            if post.attempt == 1 and key_of(post.event) == dated["id"]:
                at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
                reply = too_many(format_datetime(at, usegmt=True))
                return type(reply)(503, reply.headers)
            return 200

        receiver.answer = answer
        await say(desk, [*slow, dated], 1)
        await receiver.until(lambda: len(receiver.posts) == 18 + 16)
        for n in range(10):
            said_at = time.monotonic()
            await desk.say(free, f"{n}")
            await receiver.until(lambda n=n: told(receiver, [free]) == n + 2)
            assert time.monotonic() - said_at < 0.5 * slowness()
        await receiver.until(lambda: told(receiver, [*slow, dated]) == 2 * 16)
        for talk in slow:
            first, second = receiver.attempts(receiver.by_key[talk["id"]][1]["id"])
            assert 2 <= second.at - first.at < 3
        first, second = receiver.attempts(receiver.by_key[dated["id"]][1]["id"])
        assert 1 <= second.at - first.at < 3, "a date has no parts of a second"
        async with ledger_of(server) as ledger:
            await complete(ledger, receiver)


async def test_a_failing_conversation_does_not_delay_others(start: Starter, people_of: Of) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        alice, bob = people_of(server)("alice", "bob")
        desk = await alice.connect()
        talks = [await alice.group(bob) for _ in range(5)]
        await receiver.until(lambda: len(receiver.events) == 6)
        stuck, others = talks[0], talks[1:]
        refuses = True
        receiver.answer = lambda post: 500 if refuses and key_of(post.event) == stuck["id"] else 200
        longest = 0.0
        for n in range(30):
            said_at = time.monotonic()
            await say(desk, talks, 1)
            await receiver.until(lambda n=n: told(receiver, others) == 4 * (n + 2))
            longest = max(longest, time.monotonic() - said_at)
        assert longest < 0.5 * slowness()
        assert told(receiver, [stuck]) == 1
        head = {post.event["id"] for post in receiver.posts if key_of(post.event) == stuck["id"]}
        assert len(head) == 2, "what was created, and the first message: nothing overtakes it"
        refuses = False
        await receiver.until(lambda: told(receiver, [stuck]) == 31)
        async with ledger_of(server) as ledger:
            await complete(ledger, receiver)


async def test_everything_arrives_soon_after_the_receiver_is_back(
    start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver:
        settings = {**QUICK, "WEBHOOK_RETRY_MAX_S": "600", "WEBHOOK_TIMEOUT_S": "2"}
        server = await start(WEBHOOK_URL=receiver.url, **settings)
        alice, bob = people_of(server)("alice", "bob")
        desk = await alice.connect()
        talks = [await alice.group(bob) for _ in range(40)]
        await receiver.until(lambda: len(receiver.events) == 41)
        await receiver.close()
        await say(desk, talks, 3)
        await asyncio.sleep(5)
        async with ledger_of(server) as ledger:
            ends = [hold["nextAt"].replace(tzinfo=UTC) async for hold in ledger.holds.find()]
            assert len(ends) == 40
            assert max(ends) > datetime.now(UTC) + timedelta(seconds=5)
            # The new relay knows of the outage only from the stored back-offs.
            await server.stop()
            await server.start()
            # The worst recovery: the first attempts get no answer.
            receiver.answer = lambda post: stall
            await receiver.open()
            await receiver.until(lambda: len(receiver.posts) >= 41 + 3)
            receiver.answer = lambda post: 200
            await alice.group(bob)
            await receiver.until(lambda: told(receiver, talks) == 160)
            await complete(ledger, receiver)


async def test_endpoints_do_not_wait_for_each_other(
    start: Starter, people_of: Of, tmp_path: Path
) -> None:
    secrets = {name: f"the secret called {name} ".ljust(40, "x") for name in ("a", "b", "c", "d")}
    async with (
        Receiver(secrets["a"], secrets["b"]) as crm,
        Receiver(secrets["c"]) as slow,
        Receiver(secrets["d"]) as late,
    ):
        file = tmp_path / "webhooks.toml"
        two = f"""
            [crm]
            url = "{crm.url}"
            secret = ["{secrets["a"]}", "{secrets["b"]}"]
            [slow]
            url = "{slow.url}"
            secret = "{secrets["c"]}"
            types = ["message.created", "message.deleted"]
        """
        file.write_text(two)
        slow.answer = lambda post: stall
        settings = {**QUICK, "WEBHOOK_TIMEOUT_S": "3"}
        server = await start(WEBHOOKS_FILE=str(file), **settings, WEBHOOK_CONCURRENCY="8")
        alice, bob = people_of(server)("alice", "bob")
        talks = [await alice.group(bob) for _ in range(20)]
        for talk in talks:
            await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "One"})
        await slow.until(lambda: len(slow.posts) >= 8)
        await crm.until(lambda: len(crm.events) == 40)
        for n, talk in enumerate(talks):
            said_at = time.monotonic()
            path = f"/conversations/{talk['id']}/messages"
            said = await alice.ask("POST", path, {"content": "Two"})
            await crm.until(lambda n=n: len(crm.events) == 40 + 2 * n + 1)
            await alice.ask("PATCH", f"/messages/{said['id']}", {"content": "Two!"})
            await crm.until(lambda n=n: len(crm.events) == 40 + 2 * n + 2)
            assert time.monotonic() - said_at < 0.5 * slowness()
        assert slow.events == []

        await server.stop()
        async with ledger_of(server) as ledger:
            earlier = {id_ for recorded in (await ledger.recorded()).values() for id_ in recorded}
            file.write_text(f'{two}\n[late]\nurl = "{late.url}"\nsecret = "{secrets["d"]}"\n')
            slow.answer = lambda post: 200
            await server.start()
            for talk in talks:
                path = f"/conversations/{talk['id']}/messages"
                await alice.ask("POST", path, {"content": "Three"})
            await late.until(lambda: len(late.events) == 20)
            await slow.until(lambda: len(slow.events) == 60)
            await complete(ledger, crm)
            assert not earlier & {event["id"] for event in late.events}
        assert {event["type"] for event in slow.events} == {"message.created"}
        for talk in talks:
            words = [event["data"]["content"] for event in slow.by_key[talk["id"]]]
            assert words == ["One", "Two!", "Three"], "as it is when it is told"
            assert [event["data"]["content"] for event in late.by_key[talk["id"]]] == ["Three"]


async def test_an_undeliverable_event_does_not_block_later_ones(
    start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK, WEBHOOK_GIVE_UP_S="2")
        alice, bob = people_of(server)("alice", "bob")
        desk = await alice.connect()
        gone, refused, unreadable = [await alice.group(bob, name=f"{n}") for n in range(3)]
        first = await desk.say(unreadable, "To be lost")
        await receiver.until(lambda: len(receiver.events) == 5)
        replies: dict[str, Reply] = {"Gone": 410, "Refused": 500, "To be lost!": 500}

        receiver.answer = lambda post: replies.get(post.event["data"].get("content", ""), 200)
        async with ledger_of(server) as ledger:
            dead = [await desk.say(gone, "Gone"), await desk.say(refused, "Refused")]
            await desk.do("message:edit", {"messageId": first["id"], "content": "To be lost!"})
            for talk in (gone, refused, unreadable):
                await desk.say(talk, "Behind it")
            await receiver.until(lambda: told(receiver, [gone]) == 2)
            assert [*await ledger.dead()] == [f"evt_{dead[0]['id']}"], "at once"
            # Only possible by hand, in the database's shell.
            await ledger.log.delete_one({"_id": first["id"]})
            await receiver.until(lambda: told(receiver, [unreadable]) == 3)
            await receiver.until(lambda: told(receiver, [refused]) == 2)
            await ledger.settled()
            dead_letters = await ledger.dead()
            edit = f"evt_{unreadable['id']}-00000002"
            assert dead_letters[f"evt_{dead[0]['id']}"]["attempts"] == 1
            assert {id_: dead_letter["error"] for id_, dead_letter in dead_letters.items()} == {
                f"evt_{dead[0]['id']}": "answered 410: it does not want this event",
                f"evt_{dead[1]['id']}": "answered 500",
                edit: "The record cannot be read.",
            }
            for id_, dead_letter in dead_letters.items():
                assert id_ == edit or dead_letter["attempts"] == len(receiver.attempts(id_))
            tries = [post.at for post in receiver.attempts(f"evt_{dead[1]['id']}")]
            assert 2 <= tries[-1] - tries[0] < 3
        for talk in (gone, refused, unreadable):
            assert receiver.by_key[talk["id"]][-1]["data"]["content"] == "Behind it"
        assert server.log.count("Traceback") == server.log.count("LookupError: ") == 1
        server.log_path.write_text("")


async def test_the_log_of_a_deleted_conversation_is_kept_until_all_its_events_are_delivered(
    start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        alice, bob = people_of(server)("alice", "bob")
        talk = await alice.group(bob)
        await receiver.until(lambda: receiver.events)
        await receiver.close()
        path = f"/conversations/{talk['id']}"
        said = await alice.ask("POST", f"{path}/messages", {"content": "Hello"})
        await alice.ask("PATCH", f"/messages/{said['id']}", {"content": "Good bye"})
        await alice.ask("POST", f"/messages/{said['id']}/reactions", {"emoji": "👋"})
        await alice.ask("DELETE", f"{path}/participants/{bob.id}")
        await alice.ask("DELETE", path)
        async with ledger_of(server) as ledger:
            of_it = {"conversationId": talk["id"]}
            expiring = {**of_it, "expiresAt": {"$exists": True}}
            await asyncio.sleep(6)
            assert await ledger.log.count_documents(of_it) == 5
            assert await ledger.log.count_documents(expiring) == 0
            await receiver.open()
            heard = receiver.by_key[talk["id"]]
            await receiver.until(lambda: len(heard) == 6)
            assert [event["type"] for event in heard] == [
                "conversation.created",
                "message.created",
                "message.updated",
                "reaction.added",
                "participant.removed",
                "conversation.deleted",
            ]
            await complete(ledger, receiver)
            # It looks again after ten minutes.
            looks_again = {"subject": talk["id"]}, {"$set": {"runAt": datetime.now(UTC)}}
            end = time.monotonic() + PATIENCE_S
            while await ledger.log.count_documents(expiring) < 5:
                assert time.monotonic() < end
                await ledger.jobs.update_one(*looks_again)
                await asyncio.sleep(0.2)
