"""The project's own JavaScript client: connecting, reconnecting, and closing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.chatters import Opener, opened, seqs, texts
from tests.support.people import People, token
from tests.support.servers import ChatServer
from tests.support.through_balancer import balancer

Starter = Callable[..., Awaitable[ChatServer]]
PeopleOf = Callable[[ChatServer], People]


async def test_a_token_is_renewed_before_it_expires_without_a_disconnect(
    people: People, chatter: Opener
) -> None:
    alice, bob = people("alice", "bob")
    tokens: list[str] = []

    def kept() -> str:
        """Stands for an app that returns the same token until it has expired."""
        tokens.append(
            tokens[0] if len(tokens) == 1 else token(bob.id, expires_in=2 + 60 * len(tokens))
        )
        return tokens[-1]

    desk, phone = await asyncio.gather(
        chatter(alice, lambda: token(alice.id, expires_in=2)), chatter(bob, kept)
    )
    # Disconnected for a moment, then online again.
    await phone.sees(None, lambda snapshot: len(phone.states) >= 5)
    assert [
        (state["status"], state["reason"] and state["reason"]["code"]) for state in phone.states
    ] == [
        ("connecting", None),
        ("online", None),
        ("offline", "TOKEN_EXPIRED"),
        ("connecting", "TOKEN_EXPIRED"),
        ("online", None),
    ]
    # By its third request for a token, two seconds have passed.
    await desk.sees(None, lambda snapshot: desk.wishes >= 3)
    assert [state["status"] for state in desk.states] == ["connecting", "online"]


async def test_a_refused_client_shows_the_reason_and_the_next_attempt(
    start: Starter, people_of: PeopleOf, chatter: Opener
) -> None:
    server = await start(
        RATE_LIMITS="on", SOCKETS_PER_USER="1", PING_INTERVAL_S="2", PING_TIMEOUT_S="1"
    )
    everybody = people_of(server)
    alice, bob, carol = everybody("alice", "bob", "carol")

    forged = await chatter(alice, lambda: "a.b.c")
    await forged.sees(None, lambda snapshot: snapshot["state"] == "refused")
    assert forged.states[-1]["reason"]["code"] == "UNAUTHENTICATED"
    assert forged.states[-1]["retryAt"] is None
    forged.tokens = lambda: alice.token
    await forged.do("connect")
    await forged.sees(None, lambda snapshot: snapshot["state"] == "online")

    # One socket too many: it connects as soon as there is room.
    first = await chatter(bob)
    await first.sees(None, lambda snapshot: snapshot["state"] == "online")
    second = await chatter(bob)
    await second.sees(None, lambda snapshot: snapshot["state"] == "refused")
    refused = second.states[-1]
    assert refused["reason"]["code"] == "RATE_LIMITED"
    # The server requests three seconds, and the client adds a random part.
    assert 0 < refused["retryAt"] / 1000 - time.time() < 4
    await first.do("close")
    await second.sees(None, lambda snapshot: snapshot["state"] == "online")

    blocked = await chatter(carol)
    await blocked.sees(None, lambda snapshot: snapshot["state"] == "online")
    await everybody.master("POST", "/users/sync", {"externalUserId": carol.id, "status": "blocked"})
    await blocked.sees(None, lambda snapshot: snapshot["state"] == "refused")
    assert blocked.states[-1]["reason"]["code"] == "FORBIDDEN"


async def test_a_laptop_that_wakes_up_detects_a_dead_connection_immediately(
    start: Starter, people_of: PeopleOf, chatter: Opener
) -> None:
    server = await start()
    alice, bob = people_of(server)("alice", "bob")
    talk = await alice.direct(bob)
    device = await bob.connect()
    async with balancer([server]) as front:
        desk = await opened(await chatter(alice, url=front.sockets), talk)
        front.silence()
        for n in range(3):
            await device.say(talk, f"line {n}")
        await desk.begin("leap", talk, {"ms": 120_000})
        await desk.do("typing", talk)
        await desk.says(talk, "Good morning")
        seen = await desk.sees(talk, lambda snapshot: seqs(snapshot) == [1, 2, 3, 4])
        assert texts(seen)[3] == "Good morning"
        # A packet for the dead connection is not sent first on the new one.
        assert '"typing:start"' not in server.log

        # The browser reports that the network is back; the user does nothing.
        front.silence()
        await device.say(talk, "line 4")
        await desk.begin("leap", talk, {"ms": 120_000})
        await desk.begin("online", talk, {})
        await desk.sees(talk, lambda snapshot: texts(snapshot)[-1] == "line 4")


async def test_a_closed_client_leaves_no_timers(people: People, chatter: Opener) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)

    async def away(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "60"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", away)
    async with TestServer(app) as rest:
        desk = await opened(await chatter(alice, api=str(rest.make_url("/api"))), talk)
        await desk.says(talk, "Hello")
        await desk.do("typing", talk)
        await desk.sees(talk, lambda snapshot: seqs(snapshot) == [1])
        # Two timers are pending: the list's retry in a minute, and the stop of the typing indicator.
        await desk.close()
