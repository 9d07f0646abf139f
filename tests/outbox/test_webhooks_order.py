"""Every event arrives in order, under load and while the database or the server dies."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.conftest import Starter
from tests.support.ledger import ids, ledger_of
from tests.support.patience import PATIENCE_S
from tests.support.people import People, Person
from tests.support.raw import Answer, Wire, when
from tests.support.receiver import Post, Receiver, Reply, hang_up, raw
from tests.support.servers import ChatServer, MongoServer

Of = Callable[[ChatServer], People]
QUICK = {"WEBHOOK_RETRY_FIRST_S": "0.02", "WEBHOOK_RETRY_MAX_S": "0.1"}


def ok(answer: Answer) -> Any:
    assert answer is not None
    assert answer["ok"], answer
    return answer["data"]


class Chatter:
    """One person's connection and conversations. `acknowledged`: the revs of the events that must arrive.

    Like any client, a chatter repeats what was answered UNAVAILABLE: a slow machine is no failure.
    """

    def __init__(self, wire: Wire, talks: list[Any]) -> None:
        self.wire = wire
        self.talks = talks
        self.acknowledged: dict[str, list[int]] = {talk["id"]: [] for talk in talks}
        self.refused: Counter[str] = Counter()
        self._in_flight = asyncio.Semaphore(60)

    @classmethod
    async def of(cls, person: Person, other: Person, talks: int) -> Chatter:
        made = [await person.group(other) for _ in range(talks)]
        return cls(await Wire.connect(person), made)

    async def do(self, talk_id: str, event: str, payload: Any) -> Any:
        """Send an event until it is answered, and note its rev; 0 for a reaction, whose answer has none."""
        while True:
            async with self._in_flight:
                answer = await (await self.wire.ask(event, payload))
            assert answer is not None
            if answer["ok"]:
                self.acknowledged[talk_id].append(answer["data"].get("rev", 0))
                return answer["data"]
            if (code := answer["error"]["code"]) != "UNAVAILABLE":
                self.refused[code] += 1
                return None
            await asyncio.sleep(0.2)

    async def chat(self, foreign: Any, rounds: int) -> None:
        """In each conversation, make fifteen changes per round, and six that are refused."""
        await asyncio.gather(*[self._chat_in(talk["id"], foreign, rounds) for talk in self.talks])

    async def _chat_in(self, talk_id: str, foreign: Any, rounds: int) -> None:
        for n in range(rounds):
            sends = [
                {"conversationId": talk_id, "content": "Hello", "clientMessageId": f"{n}-{m}"}
                for m in range(10)
            ]
            sent = await asyncio.gather(*[self.do(talk_id, "message:send", send) for send in sends])
            await self.do(talk_id, "message:send", {"conversationId": talk_id, "content": ""})
            first_id, second_id = sent[3]["id"], sent[7]["id"]
            for event, payload in (
                ("message:edit", {"messageId": first_id, "content": "Hi"}),
                ("reaction:add", {"messageId": second_id, "emoji": "👍"}),
                ("message:edit", {"messageId": foreign["id"], "content": "Not mine"}),
                ("message:edit", {"messageId": second_id, "content": " "}),
                ("reaction:add", {"messageId": foreign["id"], "emoji": "👎"}),
                ("message:edit", {"messageId": first_id, "content": "Hey"}),
                ("reaction:remove", {"messageId": second_id, "emoji": "👍"}),
                ("message:delete", {"messageId": second_id}),
                ("reaction:add", {"messageId": second_id, "emoji": "👎"}),
                ("message:edit", {"messageId": second_id, "content": "Too late"}),
            ):
                await self.do(talk_id, event, payload)


async def test_five_thousand_events_arrive_in_order_while_half_of_the_answers_fail(
    start: Starter, people_of: Of
) -> None:
    chance = random.Random(7)
    failures: list[Reply] = [500, 503, 404, hang_up, raw(b"what?\r\n\r\n")]

    def answer(post: Post) -> Reply:
        if chance.random() < 0.5:
            return 200
        return 500 if chance.random() < 0.9 else chance.choice(failures)

    async with Receiver() as receiver:
        receiver.answer = answer
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        people = people_of(server)
        writers, (friend, stranger) = people(*"abcd"), people("friend", "stranger")
        apart = await stranger.group(friend)
        path = f"/conversations/{apart['id']}/messages"
        foreign = await stranger.ask("POST", path, {"content": "Among ourselves"})
        chatters = await asyncio.gather(*[Chatter.of(writer, friend, 21) for writer in writers])
        await asyncio.gather(*[chatter.chat(foreign, 4) for chatter in chatters])
        async with ledger_of(server) as ledger:
            recorded = await ledger.recorded()
            count = sum(map(len, recorded.values()))
            # Six: four users who came online, and what the stranger did.
            assert count == 4 * 21 * 61 + 6, [chatter.refused for chatter in chatters]
            await receiver.until(lambda: len(receiver.events) == count)
            await ledger.settled()
            assert ids(receiver.by_key) == recorded
            assert await ledger.dead() == {}
        assert len(receiver.posts) > 1.8 * count
        told: dict[str, tuple[str, int]] = {}
        for post in receiver.posts:
            what = (post.event["type"], post.event["data"].get("rev", 0))
            assert told.setdefault(post.event["id"], what) == what, "an id stands for one event"
        for chatter in chatters:
            assert chatter.refused == Counter(
                {"VALIDATION_FAILED": 168, "NOT_FOUND": 168, "CONFLICT": 168}
            )
            for talk in chatter.talks:
                created, *heard = receiver.by_key[talk["id"]]
                assert created["type"] == "conversation.created"
                revs = [event["data"]["rev"] for event in heard]
                assert revs == list(range(1, 61))
                acknowledged = chatter.acknowledged[talk["id"]]
                assert len(acknowledged) == 60
                assert set(acknowledged) <= {0, *revs}


async def test_a_burst_to_one_conversation_arrives_in_order(start: Starter, people_of: Of) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        alice, bob = people_of(server)("alice", "bob")
        talk = await alice.group(bob)
        heard = receiver.by_key[talk["id"]]
        await receiver.until(lambda: len(heard) == 1)
        wires = [await Wire.connect(person) for person in (alice, bob)]
        answers = [await wires[n % 2].say(talk, f"{n}") for n in range(120)]
        acknowledged = [ok(answer) for answer in await asyncio.gather(*answers)]
        # Edits collide with the delivery marks of their messages and are repeated. A burst of such edits can
        # exceed the deadline of a request.
        await receiver.until(lambda: len(heard) == 121)
        async with ledger_of(server) as ledger:
            await ledger.settled()
        # By twenty: on a slow machine a transaction of many edits could outlast the server's deadline.
        for start_at in range(0, 120, 20):
            answers = [
                await wires[n % 2].ask(
                    "message:edit", {"messageId": stored["id"], "content": "edited"}
                )
                for n, stored in enumerate(acknowledged[start_at : start_at + 20])
            ]
            await asyncio.gather(*(wire.caught_up() for wire in wires))
            assert all([ok(await answer) for answer in answers])
        await receiver.until(lambda: len(heard) == 241)
        revs = [event["data"]["rev"] for event in heard[1:]]
        assert revs == list(range(1, 241))
        async with ledger_of(server) as ledger:
            await ledger.settled()
            assert ids(receiver.by_key) == await ledger.recorded()
        assert receiver.repeats == 0


async def test_participant_events_are_in_order_with_messages(start: Starter, people_of: Of) -> None:
    """A conversation's events are in two collections."""
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        people = people_of(server)
        alice, bob, carol = people("alice", "bob", "carol")
        desk = await alice.connect()
        talks = [await alice.group(bob) for _ in range(20)]

        async def mix(talk: Any) -> None:
            path = f"/conversations/{talk['id']}/participants"
            for _ in range(6):
                await desk.say(talk, "Carol comes")
                await alice.ask("POST", path, {"userIds": [carol.id]})
                await desk.say(talk, "Carol is here")
                await alice.ask("DELETE", f"{path}/{carol.id}")

        await asyncio.gather(*map(mix, talks))
        path = "/conversations/"
        for talk in talks:
            await alice.ask("DELETE", path + talk["id"])
        count = 20 * (6 * 4 + 2)
        heard = receiver.by_key
        await receiver.until(lambda: sum(len(heard[talk["id"]]) for talk in talks) == count)
        message, comes, goes = "message.created", "participant.added", "participant.removed"
        for talk in talks:
            assert [event["type"] for event in heard[talk["id"]]] == [
                "conversation.created",
                *[message, comes, message, goes] * 6,
                "conversation.deleted",
            ]


class Stubborn:
    """Sends one message after another in a conversation, and repeats each until it is acknowledged."""

    def __init__(self, person: Person, talk: Any) -> None:
        self.person = person
        self.talk = talk
        self.said: list[str] = []
        """Ids of the acknowledged messages."""
        self.task = asyncio.create_task(self._run())
        self.ends = False

    async def _run(self) -> None:
        path = f"/conversations/{self.talk['id']}/messages"
        number = 0
        while not self.ends:
            body = {"content": f"{number}", "clientMessageId": f"{number}"}
            try:
                status, answer = await self.person.request("POST", path, body)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.1)
                continue
            if status in (200, 201):
                self.said.append(answer["id"])
                number += 1
            else:
                assert status == 503, answer
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.02)


async def stubborn(people: People, talks: int) -> list[Stubborn]:
    alice, bob = people("alice", "bob")
    return [Stubborn(alice, await alice.group(bob)) for _ in range(talks)]


async def all_arrives(server: ChatServer, receiver: Receiver, everyone: list[Stubborn]) -> None:
    for sender in everyone:
        sender.ends = True
    await asyncio.gather(*(sender.task for sender in everyone))
    async with ledger_of(server) as ledger:
        recorded = await ledger.recorded()
        count = sum(map(len, recorded.values()))
        await receiver.until(lambda: len(receiver.events) == count)
        await ledger.settled(20)
        assert ids(receiver.by_key) == recorded
        assert await ledger.dead() == {}
    for sender in everyone:
        heard = receiver.by_key[sender.talk["id"]]
        assert [event["data"]["id"] for event in heard[1:]] == sender.said
        assert [event["data"]["content"] for event in heard[1:]] == list(
            map(str, range(len(sender.said)))
        )


async def said(everyone: list[Stubborn], count: int, within: float = PATIENCE_S) -> None:
    """Wait until each has this many more acknowledged messages."""
    wanted = [len(sender.said) + count for sender in everyone]
    await when(
        lambda: all(len(sender.said) >= n for sender, n in zip(everyone, wanted, strict=True)),
        within,
    )


async def test_a_database_that_dies_and_one_that_freezes_lose_nothing(
    own_mongo: MongoServer, start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver:
        server = await start(mongo=own_mongo.url, WEBHOOK_URL=receiver.url, **QUICK)
        everyone = await stubborn(people_of(server), 10)
        await said(everyone, 20)
        await asyncio.to_thread(own_mongo.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(own_mongo.start)
        await said(everyone, 20)
        arrived = len(receiver.events)
        await receiver.until(lambda: len(receiver.events) > arrived + 50)
        for seconds in (5, 11):
            own_mongo.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            own_mongo.signal(signal.SIGCONT)
            await said(everyone, 10)
        await all_arrives(server, receiver, everyone)


async def test_a_server_killed_with_its_relay_delivers_the_rest_after_its_restart(
    start: Starter, people_of: Of
) -> None:
    async with Receiver() as receiver:
        server = await start(WEBHOOK_URL=receiver.url, **QUICK)
        everyone = await stubborn(people_of(server), 10)
        await said(everyone, 20)
        await server.kill()
        await server.start()
        await said(everyone, 20)
        await all_arrives(server, receiver, everyone)
