"""A request that was answered with UNAVAILABLE does not take effect after the caller's later requests."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import Starter
from tests.support.patience import PATIENCE_S
from tests.support.people import Device, People, Person
from tests.support.raw import history
from tests.support.servers import ChatServer, MongoServer

TIMEOUT_S = 3.0
SLOW_MS = 1800
"""Each read takes this long: less than a read may take, but two of them take longer than a request may."""


@dataclass
class Scene:
    mongo: MongoServer
    alice: Person
    desk: Device
    talk: dict[str, Any]
    first: dict[str, Any]

    @property
    def reply(self) -> dict[str, Any]:
        """A message that costs two reads. One that is no reply costs Alice's node none."""
        return {"content": "slow", "replyTo": self.first["id"], "clientMessageId": "slow"}

    async def says(self, *texts: str) -> None:
        """The conversation consists of these messages, now and later."""
        await asyncio.sleep(2 * SLOW_MS / 1000)
        await self.desk.caught_up()
        said = [message["content"] for message in await history(self.alice, self.talk)]
        assert said == list(texts)
        assert [message["content"] for message in await self.desk.all_heard("message:new")] == said


@pytest.fixture
async def scene(
    own_mongo: MongoServer, start: Starter, people_of: Callable[[ChatServer], People]
) -> Scene:
    people = people_of(await start(own_mongo.url, REQUEST_TIMEOUT_S=f"{TIMEOUT_S}"))
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    desk = await alice.connect()
    return Scene(own_mongo, alice, desk, talk, await desk.say(talk, "first"))


async def test_a_send_on_a_socket(scene: Scene) -> None:
    with scene.mongo.failing("find", blockConnection=True, blockTimeMS=SLOW_MS):
        slow = asyncio.create_task(
            scene.desk.refused("message:send", {**scene.reply, "conversationId": scene.talk["id"]})
        )
        await asyncio.sleep(0.1)
        # It waits in the connection's queue until the first is answered.
        await scene.desk.say(scene.talk, "later")
        assert (await slow).code == "UNAVAILABLE"
    await scene.says("first", "later")
    await scene.desk.say(scene.talk, **{**scene.reply, "text": "slow"})
    await scene.says("first", "later", "slow")


async def test_a_send_over_rest(scene: Scene) -> None:
    path = f"/conversations/{scene.talk['id']}/messages"
    with scene.mongo.failing("find", blockConnection=True, blockTimeMS=SLOW_MS):
        assert (await scene.alice.refused("POST", path, scene.reply)).status == 503
        await scene.desk.say(scene.talk, "later")
    await scene.says("first", "later")
    await scene.alice.ask("POST", path, scene.reply)
    await scene.says("first", "later", "slow")


async def test_a_message_that_is_hidden(scene: Scene) -> None:
    path = f"/messages/{scene.first['id']}"
    with scene.mongo.failing("find", blockConnection=True, blockTimeMS=SLOW_MS):
        refusal = await scene.alice.refused("DELETE", f"{path}?scope=self")
    assert refusal.code == "UNAVAILABLE"
    await scene.says("first")


async def test_an_insert_that_ends_after_its_caller_gave_up_is_announced(scene: Scene) -> None:
    """The message is stored long after the answer. Members receive it at once, not with the next message."""
    path = f"/conversations/{scene.talk['id']}/messages"
    send = {"content": "late", "clientMessageId": "late"}
    with scene.mongo.failing("insert", blockConnection=True, blockTimeMS=SLOW_MS):
        before = asyncio.create_task(scene.desk.say(scene.talk, "before"))
        await asyncio.sleep(0.2)
        # It waits for the first insert, so the node waits for its own longer than the caller does.
        late = asyncio.create_task(scene.alice.refused("POST", path, send))
        await before
        await asyncio.sleep(0.2)
        scene.mongo.signal(signal.SIGSTOP)
        assert (await late).code == "UNAVAILABLE"
        await asyncio.sleep(TIMEOUT_S)
        scene.mongo.signal(signal.SIGCONT)
    heard = await scene.desk.hears("message:new", lambda new: new["content"] == "late")
    status = 503
    async with asyncio.timeout(PATIENCE_S):
        while status == 503:
            status, again = await scene.alice.request("POST", path, send)
    assert again["id"] == heard["id"]
    await scene.says("first", "before", "late")


async def test_a_repeat_that_waits_for_a_send_whose_caller_gives_up(scene: Scene) -> None:
    """The repeat has more time. It is answered when the message is stored, not with the first request."""
    path = f"/conversations/{scene.talk['id']}/messages"
    send = {"content": "twice", "clientMessageId": "twice"}
    with scene.mongo.failing("insert", blockConnection=True, blockTimeMS=SLOW_MS):
        before = asyncio.create_task(scene.desk.say(scene.talk, "before"))
        await asyncio.sleep(0.2)
        first = asyncio.create_task(scene.alice.refused("POST", path, send))
        await before
        again = asyncio.create_task(scene.alice.ask("POST", path, send))
        assert (await first).code == "UNAVAILABLE"
    assert (await again)["seq"] == 3
    await scene.says("first", "before", "twice")
