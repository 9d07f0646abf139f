"""Neither a user nor an address has more sockets than allowed, and the limit affects nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from chatserver.realtime.engine.client_addresses import Addresses
from tests.conftest import Starter
from tests.support.bare import BareSocket, Polling, hello
from tests.support.browsers import Browser
from tests.support.exposition import connections_become
from tests.support.people import People, Person
from tests.support.raw import Wire
from tests.support.servers import ChatServer
from tests.support.shapes import A_SENTENCE, error

Of = Callable[[ChatServer], People]


async def refusal(person: Person) -> Any:
    """Connects a client that must be refused. Returns the reason that it receives."""
    wire = await Wire.open(person)
    await wire.introduce()
    await wire.until(lambda: wire.frames[1:])
    assert wire.frames[1].startswith("44")
    told = json.loads(wire.frames[1][2:])
    await wire.close()
    return told


async def test_a_user_may_have_only_so_many_sockets(start: Starter, people_of: Of) -> None:
    server = await start(SOCKETS_PER_USER="4", PING_INTERVAL_S="2", PING_TIMEOUT_S="1")
    people = people_of(server)
    mallory, bob = people("mallory", "bob")
    talk = await bob.direct(mallory)
    listener = await Wire.connect(bob)

    # All at the same time: connecting clients count, too.
    wires = [await Wire.open(mallory) for _ in range(30)]
    for wire in wires:
        await wire.introduce()
    for wire in wires:
        await wire.until(lambda wire=wire: wire.frames[1:] or "connected" in wire.names)
    inside = [wire for wire in wires if "connected" in wire.names]
    assert len(inside) == 4
    expected = {
        "message": A_SENTENCE,
        "data": error("RATE_LIMITED", details={"retryAfter": 3.0}),
    }
    for wire in wires:
        if wire not in inside:
            assert json.loads(wire.frames[1][2:]) == expected
            await wire.close()
    browser = await Browser.open(mallory)
    assert await browser.hears("client:refused") == expected
    poller = await Polling.open(mallory)
    assert (await poller.post(hello(mallory)))[0] == 200
    (told,) = await poller.poll_for("44")
    assert json.loads(told[2:]) == expected
    # Connected clients stay connected, and another user can connect.
    sent = (await (await listener.say(talk, "You have enough")))["data"]
    for wire in inside:
        await wire.caught_up()
        assert wire.told("message:new") == [sent]
    phone = await Wire.connect(bob)

    # A place is free again however its client leaves: by closing the WebSocket, by losing the connection, by
    # silence (like a machine that was switched off), or with a Socket.IO disconnect.
    inside[0].pongs = False
    await inside[0].ended(within=8)
    await inside[1].close()
    inside[2].websocket._response.connection.transport.abort()
    await connections_become(people.server, 3)
    again = [await Wire.connect(mallory) for _ in range(3)]
    await inside[3].write("41")
    await inside[3].introduce()
    await inside[3].until(lambda: inside[3].names.count("connected") == 2)
    assert await refusal(mallory) == expected
    for wire in (*again, inside[3], listener, phone):
        assert not wire.gone.is_set()


async def test_a_client_that_leaves_while_connecting_takes_no_place(
    start: Starter, people_of: Of
) -> None:
    people = people_of(await start(SOCKETS_PER_USER="2"))
    mallory = people("mallory")
    for delay in range(20):
        bare = await BareSocket.open(mallory)
        await bare.write(hello(mallory))
        await asyncio.sleep(delay * 0.0007)
        bare.abort()
    forged = await Wire.open(mallory)
    await forged.write('40{"token":"forged"}')
    await forged.until(lambda: forged.frames[1:])
    await forged.close()
    await connections_become(people.server, 0)
    wires = [await Wire.connect(mallory) for _ in range(2)]
    assert (await refusal(mallory))["data"]["code"] == "RATE_LIMITED"
    assert not any(wire.gone.is_set() for wire in wires)


async def test_an_address_may_have_only_so_many_sessions(start: Starter, people_of: Of) -> None:
    server = await start(
        SOCKETS_PER_ADDRESS="3",
        PING_INTERVAL_S="2",
        PING_TIMEOUT_S="1",
        TRUSTED_PROXIES="127.0.0.1",
    )
    people = people_of(server)
    alice, bob = people("alice", "bob")
    url = f"{server.sockets}/socket.io/?EIO=4&transport=polling"

    def by(*hops: str) -> dict[str, str]:
        return {"X-Forwarded-For": ", ".join(hops)}

    async def refused(**headers: str) -> bool:
        """Returns True if both transports get the same refusal."""
        async with people.session.get(url, headers=headers) as answer:
            if answer.status == 200:
                return False
            assert answer.status == 429
            assert await answer.json() == {"code": 4, "message": "Too many connections"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
            await Wire.open(alice, headers=headers)
        assert failed.value.status == 429
        return True

    # Values that a client writes into the header come before the value that the proxy appends.
    mine = by("6.6.6.6", "203.0.113.5")
    wires = [await Wire.open(alice, headers=by(f"1.1.1.{n}", "203.0.113.5")) for n in range(2)]
    async with people.session.get(url, headers=mine) as answer:
        opened = json.loads((await answer.text())[1:])
    assert await refused(**mine)
    assert await refused(**by("203.0.113.5", "127.0.0.1"))
    # An upgrade to WebSocket is not a second session.
    upgrade = f"{url}&sid={opened['sid']}".replace("polling", "websocket")
    websocket = await people.session.ws_connect(upgrade)
    await websocket.send_str("2probe")
    assert await websocket.receive_str() == "3probe"
    await websocket.send_str("5")
    # Other addresses are other clients. Without a header, the client has the proxy's address.
    other = await Wire.connect(bob, headers=by("203.0.113.6"))
    own = await Wire.connect(bob)
    for wire in wires:
        await wire.introduce()
        await wire.until(lambda wire=wire: "connected" in wire.names)

    # They leave in three ways. Then there is room again, for as many as before.
    await wires[0].close()
    wires[1].websocket._response.connection.transport.abort()
    await websocket.close()
    await connections_become(people.server, 2)
    for _ in range(3):
        assert not await refused(**mine)
    assert await refused(**mine)
    # Those three never authenticated, and never polled again.
    await connections_become(people.server, 2)
    assert not await refused(**mine)
    assert not other.gone.is_set()
    assert not own.gone.is_set()


async def test_the_header_of_a_client_that_is_not_a_proxy_is_ignored(
    start: Starter, people_of: Of
) -> None:
    people = people_of(await start(SOCKETS_PER_ADDRESS="2", TRUSTED_PROXIES="10.0.0.0/8"))
    mallory = people("mallory")
    wires = [
        await Wire.open(mallory, headers={"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(2)
    ]
    with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
        await Wire.open(mallory, headers={"X-Forwarded-For": "198.51.100.9"})
    assert failed.value.status == 429
    for wire in wires:
        await wire.close()


PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["1.2.3.4"], "203.0.113.9"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.1.1.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.1.1.1", ["6.6.6.6", "1.2.3.4, 10.2.2.2"], "1.2.3.4"),
        ("10.1.1.1", ["6.6.6.6", "1.2.3.4", "10.2.2.2"], "1.2.3.4"),
        ("10.1.1.1", ["10.3.3.3,10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", ["1.2.3.4, unknown"], "10.1.1.1"),
        ("10.1.1.1", ["1.2.3.4,, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["1.2.3.4:51234"], "1.2.3.4"),
        ("10.1.1.1", ["[2001:db8:2::7]:51234"], "2001:db8:2::7"),
        ("10.1.1.1", ["fe80::1%eth0"], "fe80::1"),
        ("2001:db8:1::1", ["2001:db8:2::7, 2001:db8:1::2"], "2001:db8:2::7"),
        ("::ffff:10.1.1.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("", ["1.2.3.4"], ""),
    ],
)
def test_the_client_is_the_last_address_that_is_not_our_proxy(
    peer: str, forwarded: list[str], client: str
) -> None:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    assert Addresses(1, PROXIES).of(request) == client


def test_an_ipv6_network_of_64_bits_counts_as_one_address() -> None:
    addresses = Addresses(2, [])
    assert addresses.enter("2001:db8:2:3::1")
    assert addresses.enter("2001:db8:2:3:ffff::2")
    assert not addresses.enter("2001:db8:2:3:4:5:6:7")
    assert addresses.enter("2001:db8:2:4::1")
    assert addresses.enter("192.0.2.1")
    assert addresses.enter("192.0.2.2")
    addresses.leave("2001:db8:2:3::1")
    assert addresses.enter("2001:db8:2:3:4:5:6:7")
