"""Connecting: accepted and refused clients, and how long a socket may stay connected."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import jwt
import pytest
import socketio

from tests.support.patience import PATIENCE_S
from tests.support.people import People, Person, devices, token
from tests.support.servers import INTERNAL_SECRET, JWT_SECRET
from tests.support.shapes import A_SENTENCE, A_TIME, AN_ID, bad_token, error


async def knock(
    person: Person, *, auth: Any = None, query: str = "", transport: str = "websocket", **more: Any
) -> tuple[socketio.AsyncClient, dict[str, Any] | None]:
    """Connects, and returns the client and the payload of `connect_error`, or None if it was accepted."""
    client = socketio.AsyncClient(reconnection=False)
    refusals: list[dict[str, Any]] = []
    client.on("connect_error", refusals.append)
    try:
        await client.connect(
            person.server.sockets + query, auth=auth, transports=[transport], **more
        )
    except socketio.exceptions.ConnectionError:
        return client, refusals[0]
    await client.disconnect()
    return client, None


@pytest.mark.parametrize("transport", ["websocket", "polling", "upgrade"])
async def test_bob_receives_his_rooms_when_he_connects(people: People, transport: str) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, group = await alice.direct(bob), await carol.group(bob)
    await alice.direct(carol)
    phone = await bob.connect(transport)
    assert phone.heard == [
        (
            "connected",
            {
                "userId": bob.id,
                "socketId": phone.client.get_sid(),
                "rooms": sorted([talk["id"], group["id"]]),
                "timestamp": A_TIME,
            },
        )
    ]
    assert phone.client.transport() == ("polling" if transport == "polling" else "websocket")
    # The socket is already in its rooms.
    sent = await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "Hi"})
    assert await phone.hears("message:new") == sent


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_client_without_a_token_is_refused_in_the_error_shape(
    people: People, transport: str
) -> None:
    alice = people("alice")
    for reason, tokens in (
        ("missing", (None, {}, {"token": ""}, {"token": None})),
        ("malformed", ({"token": 7}, {"token": {"$gt": ""}}, {"token": "a.b.c"})),
    ):
        for auth in tokens:
            refused = {"message": A_SENTENCE, "data": bad_token(reason)}
            assert (await knock(alice, auth=auth, transport=transport))[1] == refused


@pytest.mark.filterwarnings("ignore:The HMAC key is")  # too short for the wrong algorithm
async def test_a_foreign_or_truncated_token_is_refused(people: People) -> None:
    alice = people("alice")
    claims = {"sub": alice.id, "exp": time.time() + 60}
    no_signature = jwt.encode(claims, None, "none")
    for wrong, reason in (
        (token(alice.id, secret="another-secret-of-at-least-thirty-two-bytes"), "signature"),
        (token(alice.id, secret=INTERNAL_SECRET), "signature"),
        (jwt.encode(claims, JWT_SECRET, "HS384"), "algorithm"),
        (no_signature, "algorithm"),
        (jwt.encode({"sub": alice.id}, JWT_SECRET, "HS256"), "claim"),
        (jwt.encode({"exp": claims["exp"]}, JWT_SECRET, "HS256"), "subject"),
        (jwt.encode({**claims, "sub": ""}, JWT_SECRET, "HS256"), "subject"),
        (token(alice.id)[:-2], "signature"),
    ):
        _, refusal = await knock(alice, auth={"token": wrong})
        assert refusal is not None
        assert refusal["data"] == bad_token(reason), wrong
    expired = await knock(alice, auth={"token": token(alice.id, expires_in=-5)})
    assert expired[1] == {"message": A_SENTENCE, "data": bad_token("expired")}


async def test_a_token_may_be_in_a_header_but_never_in_the_query(people: People) -> None:
    alice = people("alice")
    bearer = {"Authorization": f"Bearer {alice.token}"}
    for transport in ("websocket", "polling"):
        assert (await knock(alice, headers=bearer, transport=transport))[1] is None
        for query in (f"?token={alice.token}", f"?Authorization=Bearer%20{alice.token}"):
            _, refusal = await knock(alice, query=query, transport=transport)
            assert refusal is not None
            assert refusal["data"] == bad_token("missing")
    basic = {"Authorization": f"Basic {alice.token}"}
    assert (await knock(alice, headers=basic))[1] is not None


async def test_an_unknown_user_is_known_once_connected(people: People) -> None:
    alice = people("alice")
    path = f"/users/{alice.id}"
    assert (await people.master("GET", path))[0] == 404
    phone = await alice.connect(with_token=token(alice.id, name="Alice Adams"))
    assert phone.heard[0][1]["rooms"] == []
    status, user = await people.master("GET", path)
    assert (status, user["name"], user["status"]) == (200, "Alice Adams", "active")


async def test_a_socket_lasts_as_long_as_its_token_unless_it_sends_a_new_one(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    short = token(bob.id, expires_in=1.9)
    phone, tablet, laptop = await asyncio.gather(*[bob.connect(with_token=short) for _ in range(3)])
    poll = await bob.connect("polling", with_token=short)
    fresh = token(bob.id, expires_in=60)

    refreshed = await tablet.do("auth:refresh", {"token": fresh})
    assert refreshed == {"expiresAt": A_TIME}
    # A refused refresh changes nothing: the laptop keeps its current token.
    someone_elses = await laptop.refused("auth:refresh", {"token": alice.token})
    assert someone_elses.error == error("FORBIDDEN")
    assert (await laptop.refused("auth:refresh", {"token": "a.b.c"})).code == "UNAUTHENTICATED"
    outdated = await laptop.refused("auth:refresh", {"token": token(bob.id, expires_in=-5)})
    assert outdated.code == "TOKEN_EXPIRED"
    assert (await laptop.refused("auth:refresh", {})).details == {"token": [A_SENTENCE]}

    assert not any(device.gone.is_set() for device in (phone, laptop, poll))
    for device in (phone, laptop, poll):
        assert await device.hears("error") == bad_token("expired")
        async with asyncio.timeout(PATIENCE_S):
            await device.gone.wait()
    sent = await tablet.say(talk, "Still here")
    assert await tablet.hears("message:new") == sent
    for device in (phone, laptop, poll):
        assert "message:new" not in [name for name, _ in device.heard]


async def test_a_refreshed_token_may_also_shorten_the_connection(people: People) -> None:
    alice = people("alice")
    phone = await alice.connect()
    await phone.do("auth:refresh", {"token": token(alice.id, expires_in=1.2)})
    assert await phone.hears("error") == bad_token("expired")
    async with asyncio.timeout(PATIENCE_S):
        await phone.gone.wait()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_blocked_user_is_disconnected_immediately_and_stays_out(
    people: People, transport: str
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    phone, tablet = await bob.connect(transport), await bob.connect(transport)
    desk = await alice.connect()
    await people.master("POST", "/users/sync", {"externalUserId": bob.id, "status": "blocked"})
    for device in (phone, tablet):
        assert await device.hears("error") == error("FORBIDDEN")
        async with asyncio.timeout(PATIENCE_S):
            await device.gone.wait()
    await desk.say(talk, "Bob?")
    assert "message:new" not in [name for name, _ in phone.heard]
    _, refusal = await knock(bob, auth={"token": bob.token}, transport=transport)
    assert refusal == {"message": A_SENTENCE, "data": error("FORBIDDEN")}
    assert (await bob.refused("GET", "/conversations")).code == "FORBIDDEN"

    await people.master("POST", "/users/sync", {"externalUserId": bob.id, "status": "active"})
    again = await bob.connect(transport)
    assert again.heard[0][1] == {
        "userId": bob.id,
        "socketId": AN_ID,
        "rooms": [talk["id"]],
        "timestamp": A_TIME,
    }


async def test_a_deleted_user_is_removed_from_everything_immediately(people: People) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    talk, group = await alice.direct(bob), await bob.group(alice, carol)
    desk, phone, laptop = await devices(alice, bob, carol)
    await phone.say(group, "My last words")
    assert (await people.master("DELETE", f"/users/{bob.id}"))[0] == 204
    assert await phone.hears("error") == error("FORBIDDEN")
    async with asyncio.timeout(PATIENCE_S):
        await phone.gone.wait()
    _, refusal = await knock(bob, auth={"token": bob.token})
    assert refusal is not None
    assert refusal["data"] == error("FORBIDDEN")

    gone = {"conversationId": group["id"], "userId": bob.id, "timestamp": A_TIME}
    assert await laptop.all_heard("participant:removed") == [gone]
    told = await desk.all_heard("participant:removed")
    assert sorted(told_event["conversationId"] for told_event in told) == sorted(
        [talk["id"], group["id"]]
    )
    history = await carol.ask("GET", f"/conversations/{group['id']}/messages")
    assert [message["content"] for message in history["items"]] == ["My last words"]
    group_now = await carol.ask("GET", f"/conversations/{group['id']}")
    assert {participant["userId"] for participant in group_now["participants"]} == {
        alice.id,
        carol.id,
    }


async def test_a_user_blocked_while_connecting_is_refused(people: People) -> None:
    """There is a moment between being accepted and being in the rooms."""
    everyone = people(*[f"user-{number}" for number in range(40)])

    async def block(person: Person, after: float) -> None:
        await asyncio.sleep(after)
        body = {"externalUserId": person.id, "status": "blocked"}
        assert (await people.master("POST", "/users/sync", body))[0] in (200, 201)

    async def try_to_connect(person: Person) -> None:
        client = socketio.AsyncClient(reconnection=False)
        try:
            await client.connect(people.server.sockets, auth={"token": person.token})
        except socketio.exceptions.ConnectionError:
            return
        async with asyncio.timeout(PATIENCE_S):
            await client.eio.wait()

    await asyncio.gather(
        *[
            work
            for number, person in enumerate(everyone)
            for work in (try_to_connect(person), block(person, number * 0.002))
        ]
    )
    for person in everyone:
        assert (await person.refused("GET", "/conversations")).code == "FORBIDDEN"
