"""On SIGTERM the server finishes its requests, disconnects its clients and stops."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import aiohttp
import pytest

from tests.conftest import Starter
from tests.support import documented
from tests.support.bare import Polling
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.raw import RESTARTS, Answer, Wire, history, when
from tests.support.servers import ChatServer, free_port
from tests.support.steady_talk import ready


async def test_acknowledged_messages_are_stored_and_clients_are_told_to_reconnect(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start()
    people = people_of(server)
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    wires = [await Wire.connect(person) for person in (alice, bob, carol)]
    asked: list[list[asyncio.Future[Answer]]] = [[], [], []]

    async def stream(number: int) -> None:
        while not wires[number].gone.is_set():
            n = len(asked[number])
            asked[number].append(await wires[number].say(talk, f"{number} {n}", f"{n}"))
            await asyncio.sleep(0.0005)

    streams = [asyncio.create_task(stream(number)) for number in range(3)]
    await when(lambda: sum(request.done() for request in asked[0]) > 50)
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    assert await server.stop() == 0
    assert time.monotonic() - began < 5 * slowness()
    for wire in wires:
        assert await wire.ended() == RESTARTS
    await asyncio.gather(*streams)
    answers = [await asyncio.gather(*requests) for requests in asked]
    done = [answer for several in answers for answer in several if answer is not None]
    assert [answer for answer in done if not answer["ok"]] == [], "accepted requests are finished"

    await server.start()
    log = await history(bob, talk)
    by_id = {message["id"]: message for message in log}
    assert [message["seq"] for message in log] == list(range(1, len(log) + 1))
    assert all(by_id[answer["data"]["id"]] == answer["data"] for answer in done)
    for number, person in enumerate((alice, bob, carol)):
        said = [message["content"] for message in log if message["senderId"] == person.id]
        assert said == [f"{number} {n}" for n in range(len(said))]
    back = await Wire.connect(alice)
    repeats = [await back.say(talk, f"0 {n}", f"{n}") for n in range(len(asked[0]))]
    assert all(answer and answer["ok"] for answer in await asyncio.gather(*repeats))
    said = [
        message["content"]
        for message in await history(bob, talk)
        if message["senderId"] == alice.id
    ]
    assert said == [f"0 {n}" for n in range(len(asked[0]))]


@pytest.mark.parametrize("ports", ["two ports", "one port"])
async def test_clients_are_disconnected_gradually_and_new_ones_are_refused(
    start: Starter, people_of: Callable[[ChatServer], People], ports: str
) -> None:
    port = str(free_port())
    settings = {"PORT": port, "WS_PORT": port} if ports == "one port" else {}
    server = await start(DRAIN_S="1.5", **settings)
    people = people_of(server)
    alice, bob, carol = people("alice", "bob", "carol")
    talk = await alice.group(bob, carol)
    wires = [await Wire.connect(person) for person in (alice, bob) for _ in range(15)]
    polling = await Polling.connect(carol)
    began = time.monotonic()
    gone: list[float] = []

    async def wait_for_the_end(wire: Wire) -> None:
        assert await wire.ended() == RESTARTS
        gone.append(time.monotonic() - began)

    ending = [asyncio.create_task(wait_for_the_end(wire)) for wire in wires]
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGINT)  # passed on by a wrapper: the same stop
    await when(lambda: gone)
    async with people.session.get(f"{server.rest}/ready") as answer:
        said = await answer.json()
        assert (answer.status, said) == (503, {"status": "draining"})
        documented.answer("GET", "/ready", answer.status, answer.headers, said)
    async with people.session.get(f"{server.rest}/health") as answer:
        assert answer.status == 200
    with pytest.raises(aiohttp.ClientError):
        await Wire.open(carol)
    with pytest.raises((aiohttp.ClientError, AssertionError)):
        await Polling.open(carol)

    # Clients that are still connected are served, and so is the Master Service.
    left = [wire for wire in wires if not wire.gone.is_set()]
    assert left
    sent = await (await left[-1].say(talk, "Still here"))
    assert sent is not None
    assert sent["ok"]
    assert (await history(carol, talk)) == [sent["data"]]
    await asyncio.gather(*ending)
    assert max(gone) - min(gone) > 0.5, "not all at the same time"
    assert max(gone) < 3
    assert await server.stop() == 0
    assert time.monotonic() - began < 6 * slowness()
    with pytest.raises((aiohttp.ClientError, AssertionError)):
        await polling.poll_for("never")


async def test_before_clients_are_disconnected_a_balancer_is_notified_and_new_ones_are_accepted(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(DRAIN_S="4")
    people = people_of(server)
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    desk, *_ = [await Wire.connect(alice) for _ in range(12)]
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    while await ready(people) == 200:
        assert time.monotonic() - began < 0.5 * slowness()
        await asyncio.sleep(0.01)
    late, polling = await Wire.connect(bob), await Polling.connect(bob)
    sent = await (await late.say(talk, "Just in time"))
    assert sent is not None
    assert sent["ok"]
    await desk.until(lambda: desk.told("message:new") == [sent["data"]])
    assert time.monotonic() - began < 1 * slowness(), "while /ready says 503"

    assert await desk.ended() == RESTARTS
    assert time.monotonic() - began > 1.1
    for transport in ("polling", "websocket"):
        url = f"{server.sockets}/socket.io/?EIO=4&transport={transport}"
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        headers = upgrade if transport == "websocket" else {}
        async with people.session.get(url, headers=headers) as answer:
            assert answer.status == 503, (
                "refused over HTTP, so that a balancer may try another node"
            )
    polled = await polling.poll_for("1")
    assert polled == ["1"], "a polling client is told that its session is closed"
    assert await late.ended() == RESTARTS
    assert await server.stop() == 0


async def test_idle_connections_do_not_delay_the_stop(
    start: Starter, people_of: Callable[[ChatServer], People]
) -> None:
    """Silent connections, half a request, a poll under way, and a socket that does not read."""
    server = await start()
    people = people_of(server)
    alice, bob = people("alice", "bob")
    await alice.ask("GET", "/conversations")  # leaves a keep-alive connection open
    connections = []
    for port in (server.port, server.ws_port):
        for said in (b"", b"GET /hea", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            connections.append((reader, writer))
    nobody = await Wire.open(alice)
    polling = await Polling.connect(bob)
    poll = asyncio.create_task(polling.get())
    await asyncio.sleep(0.1)
    began = time.monotonic()
    assert await server.stop() == 0
    assert time.monotonic() - began < 3 * slowness()
    assert await nobody.ended() == RESTARTS
    status, _ = await asyncio.wait_for(poll, 2)
    assert status in (200, 400)
    for _, writer in connections:
        writer.close()
