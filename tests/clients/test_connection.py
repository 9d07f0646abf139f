"""The project's own JavaScript client: how it comes, stays, and goes."""

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


async def test_a_token_is_renewed_before_it_ends_without_a_break(
    people: People, chatter: Opener
) -> None:
    alice, bob = people("alice", "bob")
    tokens: list[str] = []

    def kept() -> str:
        """An app that has the same token until it has expired."""
        tokens.append(
            tokens[0] if len(tokens) == 1 else token(bob.id, expires_in=2 + 60 * len(tokens))
        )
        return tokens[-1]

    desk, phone = await asyncio.gather(
        chatter(alice, lambda: token(alice.id, expires_in=2)), chatter(bob, kept)
    )
    # Away for a moment, and back.
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
    # Two seconds are over when it has asked for the third one.
    await desk.sees(None, lambda snapshot: desk.wishes >= 3)
    assert [state["status"] for state in desk.states] == ["connecting", "online"]


async def test_who_is_refused_knows_why_and_whether_it_will_be_tried_again(
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

    # One too many: it comes as soon as there is room.
    first = await chatter(bob)
    await first.sees(None, lambda snapshot: snapshot["state"] == "online")
    second = await chatter(bob)
    await second.sees(None, lambda snapshot: snapshot["state"] == "refused")
    refused = second.states[-1]
    assert refused["reason"]["code"] == "RATE_LIMITED"
    # The server asks for three seconds; those who were refused together do not come back together.
    assert 0 < refused["retryAt"] / 1000 - time.time() < 4
    await first.do("close")
    await second.sees(None, lambda snapshot: snapshot["state"] == "online")

    blocked = await chatter(carol)
    await blocked.sees(None, lambda snapshot: snapshot["state"] == "online")
    await everybody.master("POST", "/users/sync", {"externalUserId": carol.id, "status": "blocked"})
    await blocked.sees(None, lambda snapshot: snapshot["state"] == "refused")
    assert blocked.states[-1]["reason"]["code"] == "FORBIDDEN"


async def test_a_laptop_that_wakes_up_finds_out_at_once_that_its_line_is_dead(
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
        # What was meant for the old line is not said to the new one before all else.
        assert '"typing:start"' not in server.log

        # Nobody says anything, and the network is said to be back.
        front.silence()
        await device.say(talk, "line 4")
        await desk.begin("leap", talk, {"ms": 120_000})
        await desk.begin("online", talk, {})
        await desk.sees(talk, lambda snapshot: texts(snapshot)[-1] == "line 4")


async def test_whoever_closes_the_client_leaves_nothing_behind_that_runs(
    people: People, chatter: Opener
) -> None:
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
        # The list would be asked for again in a minute, and a key was just pressed.
        await desk.close()
