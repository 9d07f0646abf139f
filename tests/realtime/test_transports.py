"""The chat over Engine.IO: polling, WebSocket, and the upgrade from one to the other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.support.patience import PATIENCE_S
from tests.support.people import People, Person

SEPARATOR = "\x1e"


class Polling:
    """A polling client, packet by packet."""

    def __init__(self, person: Person, session: aiohttp.ClientSession) -> None:
        self._person = person
        self._session = session
        self.url = person.server.sockets + "/socket.io/?EIO=4&transport=polling"
        self.opened: dict[str, Any] = {}

    async def get(self) -> list[str]:
        async with self._session.get(self.url) as answer:
            assert answer.status == 200
            return (await answer.text()).split(SEPARATOR)

    async def post(self, *packets: str) -> int:
        async with self._session.post(self.url, data=SEPARATOR.join(packets)) as answer:
            return answer.status

    async def open(self) -> dict[str, Any]:
        """Connect. Returns the payload of `connected`."""
        (packet,) = await self.get()
        assert packet[0] == "0"
        self.opened = json.loads(packet[1:])
        self.url += f"&sid={self.opened['sid']}"
        assert await self.post("40" + json.dumps({"token": self._person.token})) == 200
        packets = await self.get()
        if len(packets) == 1:
            packets += await self.get()
        assert packets[0].startswith('40{"sid":')
        name, payload = json.loads(packets[1][2:])
        assert name == "connected"
        return dict(payload)

    def websocket(self) -> Any:
        url = self.url.replace("transport=polling", "transport=websocket")
        return self._session.ws_connect(url, autoclose=False)


def event(name: str, payload: Any, packet_id: int | str = "") -> str:
    return f"42{packet_id}{json.dumps([name, payload])}"


async def test_the_handshake_lists_upgrades_and_limits(
    people: People, session: aiohttp.ClientSession
) -> None:
    poll = Polling(people("alice"), session)
    connected = await poll.open()
    assert connected["rooms"] == []
    assert poll.opened == {
        "sid": poll.opened["sid"],
        "upgrades": ["websocket"],
        "pingInterval": 25000,
        "pingTimeout": 20000,
        "maxPayload": 65536,
    }


async def test_events_of_one_post_are_handled_in_order(
    people: People, session: aiohttp.ClientSession
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    phone = await bob.connect()
    poll = Polling(alice, session)
    await poll.open()
    sends = [
        event("message:send", {"conversationId": talk["id"], "content": str(number)}, number)
        for number in range(40)
    ]
    assert await poll.post(*sends) == 200
    said = []
    while len(said) < 40:
        said.append(await phone.hears("message:new"))
    assert [message["content"] for message in said] == [str(number) for number in range(40)]

    answers: dict[int, Any] = {}
    while len(answers) < 40:
        for packet in await poll.get():
            if packet.startswith("43"):
                packet_id, _, answer = packet[2:].partition("[")
                answers[int(packet_id)] = json.loads("[" + answer)
    assert answers == {
        number: [{"ok": True, "data": message}] for number, message in enumerate(said)
    }


async def test_nothing_is_lost_or_duplicated_by_the_upgrade(
    people: People, session: aiohttp.ClientSession
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    poll = Polling(bob, session)
    await poll.open()
    desk = await alice.connect()
    packets: list[str] = []
    while not any("user:online" in packet for packet in packets):
        packets += await poll.get()  # until alice's presence has arrived, which would interfere
    under_way = asyncio.create_task(poll.get())
    await asyncio.sleep(0.05)
    async with poll.websocket() as websocket:
        await websocket.send_str("2probe")
        assert await websocket.receive_str() == "3probe"
        # The waiting poll ends, so that the client can stop polling.
        assert await under_way == ["6"]
        before = await desk.say(talk, "While probing")
        await desk.say(talk, "Still probing")
        packets += await poll.get()
        last = await desk.say(talk, "Nobody polls for this one")
        await websocket.send_str("5")
        after = await desk.say(talk, "After the upgrade")
        while len([packet for packet in packets if packet.startswith('42["message:new"')]) < 4:
            packets.append(await websocket.receive_str())
        await websocket.send_str(event("ping", {}, 1))
        assert (await websocket.receive_str()).startswith("431[")
    said = [
        json.loads(packet[2:])[1] for packet in packets if packet.startswith('42["message:new"')
    ]
    assert [message["seq"] for message in said] == [1, 2, 3, 4]
    assert (said[0], said[2], said[3]) == (before, last, after)


async def test_an_aborted_upgrade_leaves_the_polling_session_working(
    people: People, session: aiohttp.ClientSession
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    poll = Polling(bob, session)
    await poll.open()
    async with poll.websocket() as websocket:
        await websocket.send_str("2probe")
        assert await websocket.receive_str() == "3probe"
    sent = await desk.say(talk, "Are you still there?")
    packets: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while not any("message:new" in packet for packet in packets):
            packets += await poll.get()
    said = [json.loads(packet[2:]) for packet in packets if "message:new" in packet]
    assert said == [["message:new", sent]]
    # The client may try again.
    async with poll.websocket() as websocket:
        await websocket.send_str("2probe")
        assert await websocket.receive_str() == "3probe"
        await websocket.send_str("5")
        again = await desk.say(talk, "And now?")
        heard: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while not any("message:new" in packet for packet in heard):
                heard.append(await websocket.receive_str())
        assert json.loads(heard[-1][2:]) == ["message:new", again]


async def test_an_unknown_session_id_is_refused(
    people: People, session: aiohttp.ClientSession
) -> None:
    poll = Polling(people("alice"), session)
    url = poll.url
    await poll.open()
    for sid in ("made-up", poll.opened["sid"][:-1], ""):
        async with session.get(f"{url}&sid={sid}x") as answer:
            assert answer.status == 400
        async with session.post(f"{url}&sid={sid}x", data="41") as answer:
            assert answer.status == 400


async def test_a_session_without_connect_receives_nothing(
    people: People, session: aiohttp.ClientSession
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    url = people.server.sockets + "/socket.io/?EIO=4&transport=websocket"
    async with session.ws_connect(url) as websocket:
        assert (await websocket.receive_str())[0] == "0"
        await websocket.send_str(event("ping", {}, 1))
        hello = {"conversationId": talk["id"], "content": "Hello"}
        await websocket.send_str(event("message:send", hello, 2))
        await desk.say(talk, "Only for those who are in")
        # The protocol requires CONNECT to be the first packet.
        ended = await websocket.receive(timeout=2)
        assert (ended.type, ended.data) == (aiohttp.WSMsgType.CLOSE, 1003)
    assert len(await desk.all_heard("message:new")) == 1


@pytest.mark.parametrize("path", ["/socket.io/", "/socket.io"])
async def test_no_answer_to_polling_may_be_cached(
    people: People, session: aiohttp.ClientSession, path: str
) -> None:
    alice = people("alice")
    poll = Polling(alice, session)
    poll.url = poll.url.replace("/socket.io/", path)

    seen: list[tuple[int, Any]] = []

    async def ask(method: str, url: str, **more: Any) -> str:
        async with session.request(method, url, **more) as answer:
            seen.append((answer.status, answer.headers.getall("Cache-Control", [])))
            return await answer.text()

    opened = json.loads((await ask("GET", poll.url))[1:])
    url = f"{poll.url}&sid={opened['sid']}"
    await ask("POST", url, data="40" + json.dumps({"token": alice.token}))
    await ask("GET", url)  # has packets
    await ask("OPTIONS", poll.url, headers={"Origin": "https://chat.example.com"})
    await ask("GET", poll.url + "&sid=unknown")
    await ask("PUT", url)
    await ask("POST", url, data="x" * 300_000)
    await ask("GET", url)  # the session has ended
    await ask("GET", poll.url.replace("polling", "pigeon"))
    assert {status for status, _ in seen} == {200, 400, 413}
    assert [cache for _, cache in seen] == [["no-store"]] * len(seen)
