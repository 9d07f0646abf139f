"""Rate limits: a user who does too much too fast must wait. Nobody else is affected."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.people import Device, People, Person, Refused, devices
from tests.support.raw import Wire
from tests.support.servers import ChatServer, chat_server
from tests.support.shapes import error


@pytest_asyncio.fixture(scope="module")
async def limited(
    mongo_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatServer]:
    log: Path = tmp_path_factory.mktemp("limited") / "log"
    async with chat_server(mongo_url, f"limited-{worker}", log, RATE_LIMITS="on") as running:
        yield running


@pytest_asyncio.fixture
async def people(limited: ChatServer) -> AsyncIterator[People]:
    async with aiohttp.ClientSession() as session:
        everyone = People(limited, session)
        yield everyone
        await everyone.go_home()


MANY = 600


def limit_of(refusal: Refused) -> float:
    wait = refusal.details["retryAfter"]
    assert refusal.error == error("RATE_LIMITED", details={"retryAfter": wait})
    assert 0 < wait <= 10
    return float(wait)


async def flood(people: People, person: Person, method: str, path: str, body: Any) -> int:
    """Sends many requests at once. Returns how many pass; the others must be refused correctly."""
    url, headers = f"{people.server.rest}/api{path}", {"Authorization": f"Bearer {person.token}"}

    async def passes() -> bool:
        async with people.session.request(method, url, json=body, headers=headers) as answer:
            if answer.status == 429:
                wait = limit_of(Refused((await answer.json())["error"]))
                # The header has whole seconds, rounded up.
                assert answer.headers["Retry-After"].isdecimal()
                assert wait <= float(answer.headers["Retry-After"]) < wait + 1
            return answer.status != 429

    return sum(await asyncio.gather(*[passes() for _ in range(MANY)]))


async def test_a_user_who_posts_too_fast_must_wait_and_can_then_continue(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    path = f"/conversations/{talk['id']}/messages"
    answers = await asyncio.gather(
        *[alice.request("POST", path, {"content": f"{n}"}) for n in range(MANY)]
    )
    said = [answer for status, answer in answers if status == 201]
    refused = [Refused(answer["error"]) for status, answer in answers if status == 429]
    assert len(said) + len(refused) == MANY
    assert 100 <= len(said) < MANY
    wait = max(limit_of(refusal) for refusal in refused)

    # Only Alice is limited, and only in posting: Bob can write, and she can read.
    assert (await bob.request("POST", path, {"content": "I may"}))[0] == 201
    history = (await alice.ask("GET", f"{path}?limit=200"))["items"]
    assert [message["seq"] for message in history] == list(range(1, len(said) + 2))
    await asyncio.sleep(wait)
    assert (await alice.request("POST", path, {"content": "Again"}))[0] == 201


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/conversations/direct", {"userId": "bob"}),
        ("GET", "/conversations?limit=1", None),
        ("POST", "/presence/batch", {"userIds": ["bob"]}),
        ("PATCH", "/messages/nonsense", {"content": "x"}),
        ("POST", "/messages/nonsense/reactions", {"emoji": "nonsense"}),
    ],
)
async def test_every_endpoint_has_a_limit(
    people: People, method: str, path: str, body: Any
) -> None:
    alice, bob = people("alice", "bob")
    assert 50 <= await flood(people, alice, method, path, body) < MANY
    # Invalid and refused requests count, too. Another user is not affected.
    status, _ = await bob.request(method, path, body)
    assert status != 429


async def test_a_socket_that_sends_too_fast_gets_the_limit_in_the_acknowledgement(
    people: People,
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk, tablet, phone = await devices(alice, alice, bob)

    async def say(device: Device, n: int) -> Any:
        try:
            return await device.say(talk, f"{n}")
        except Refused as refusal:
            return refusal

    # The limit is per user: a second device does not double it.
    answers = await asyncio.gather(
        *[say(device, n) for n in range(MANY // 2) for device in (desk, tablet)]
    )
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    said = [answer for answer in answers if not isinstance(answer, Refused)]
    assert 100 <= len(said) < MANY
    wait = max(limit_of(refusal) for refusal in refused)
    hers = await phone.say(talk, "I may")
    heard = await phone.all_heard("message:new")
    assert sorted(message["seq"] for message in heard) == list(range(1, len(said) + 2))
    assert heard[-1] == hers
    # Another event has a limit of its own.
    await desk.do("message:read", {"messageId": hers["id"]})
    await asyncio.sleep(wait)
    assert (await desk.say(talk, "Again"))["seq"] == len(said) + 2


@pytest.mark.parametrize("event", ["typing:start", "ping", "auth:refresh", "messages:sync"])
async def test_every_event_has_a_limit_with_or_without_a_callback(
    people: People, event: str
) -> None:
    alice, bob = people("alice", "bob")
    desk, phone = await devices(alice, bob)
    for _ in range(MANY):
        await desk.client.emit(event, {"$wrong": 1})
    told = await desk.hears("error", lambda error: error["code"] == "RATE_LIMITED")
    wait = told["details"]["retryAfter"]
    assert told == error("RATE_LIMITED", details={"retryAfter": wait}, event=event)
    # Many again, because enough time may have passed for a single one.
    again = await asyncio.gather(*[desk.refused(event, {"$wrong": 1}) for _ in range(60)])
    assert "RATE_LIMITED" in {refusal.code for refusal in again}
    assert (await phone.refused(event, {"$wrong": 1})).code == "VALIDATION_FAILED"
    assert desk.client.connected


async def test_a_client_that_connects_again_and_again_must_wait(people: People) -> None:
    """Each connect reads the database twice, and one WebSocket can connect again and again."""
    alice, bob = people("alice", "bob")
    wire = await Wire.open(alice)
    await wire.until(lambda: wire.frames)
    began = time.monotonic()

    def refusals() -> list[str]:
        return [frame for frame in wire.frames if frame.startswith("44")]

    tried = 0
    while not refusals():  # a slow server is hardly faster than the limit
        assert tried < 3000
        tried += 300
        for _ in range(300):
            await wire.introduce()
            await wire.write("41")
        await wire.until(lambda: len(wire.told("connected")) + len(refusals()) == tried)  # noqa: B023
    came = len(wire.told("connected"))
    assert 100 <= came <= 120 + 20 * (time.monotonic() - began)
    refusal = json.loads(refusals()[-1][2:])["data"]
    wait = limit_of(Refused(refusal))
    # Only Alice has to wait, and then she can connect, too.
    await (await Wire.connect(bob)).close()
    await asyncio.sleep(wait)
    await wire.introduce()
    await wire.until(lambda: len(wire.told("connected")) == came + 1)
    await wire.close()


async def test_a_list_costs_as_much_as_it_asks_for(people: People) -> None:
    alice, bob = people("alice", "bob")
    await alice.direct(bob)

    async def lists(person: Person, limit: int, times: int) -> list[tuple[int, Any]]:
        path = f"/conversations?limit={limit}"
        return await asyncio.gather(*[person.request("GET", path) for _ in range(times)])

    # Fifty devices that connect again after a restart of their node.
    assert {status for status, _ in await lists(alice, 50, 50)} == {200}
    began = time.monotonic()
    answers = await lists(bob, 200, 100)
    passed = [answer for status, answer in answers if status == 200]
    waits = [limit_of(Refused(answer["error"])) for status, answer in answers if status == 429]
    assert len(passed) + len(waits) == 100
    # 21 tokens each: the last one that passes takes more than are left, and the next one waits for them.
    assert 15 <= len(passed) <= 16 + 60 * (time.monotonic() - began) / 21
    assert max(waits) <= 22 / 60
    # Nothing else of Bob's is delayed, nor what the Master Service asks for him.
    assert (await bob.request("GET", f"/users/{alice.id}/presence"))[0] == 200
    for _ in range(10):
        as_bob = {"X-User-Id": bob.id}
        assert (await people.master("GET", "/conversations?limit=200", **as_bob))[0] == 200
    await asyncio.sleep(max(waits))
    assert (await bob.request("GET", "/conversations?limit=200"))[0] == 200


async def test_large_groups_cost_more_than_small_ones(people: People) -> None:
    alice, bob = people("alice", "bob")
    everybody = [f"user{n}" for n in range(900)]

    async def create(person: Person, user_ids: list[str], times: int) -> list[tuple[int, Any]]:
        body = {"type": "group", "participantIds": user_ids}
        return await asyncio.gather(
            *[person.request("POST", "/conversations", body) for _ in range(times)]
        )

    assert {status for status, _ in await create(bob, everybody[:10], 40)} == {201}
    # 19 tokens each. The bodies arrive after all of the requests have found a token.
    answers = await create(alice, everybody, 12)
    waits = [limit_of(Refused(answer["error"])) for status, answer in answers if status == 429]
    assert 3 <= len(answers) - len(waits) <= 6
    assert max(waits) > 0.5


@pytest.mark.parametrize("door", ["rest", "socket"])
async def test_long_pages_are_paid_by_the_byte_and_short_ones_are_not(
    people: People, door: str
) -> None:
    alice, bob = people("alice", "bob")
    long, short = await alice.direct(bob), await alice.group(bob)
    as_alice = {"X-User-Id": alice.id}
    path = f"/conversations/{long['id']}/messages"
    await asyncio.gather(
        *[people.master("POST", path, {"content": "x" * 10_000}, **as_alice) for _ in range(60)]
    )
    await alice.ask("POST", f"/conversations/{short['id']}/messages", {"content": "Short"})
    (phone,) = await devices(alice)

    async def read(talk: Any) -> Refused | None:
        if door == "socket":
            try:
                page = await phone.do(
                    "messages:sync", {"conversationId": talk["id"], "afterRev": 0}
                )
            except Refused as refusal:
                return refusal
            assert page["messages"]
            return None
        status, answer = await alice.request(
            "GET", f"/conversations/{talk['id']}/messages?limit=200"
        )
        return Refused(answer["error"]) if status == 429 else None

    for _ in range(60):
        assert await read(short) is None
    began, pages = time.monotonic(), 0
    while (refusal := await read(long)) is None:
        pages += 1
        assert pages < 250
    # A page has almost 512 KiB, and takes eight or nine tokens.
    assert 20 <= pages <= 32 + 50 * (time.monotonic() - began) / 8
    await asyncio.sleep(limit_of(refusal))
    assert await read(long) is None


async def test_subscriptions_cost_as_many_as_they_name(people: People) -> None:
    alice, bob = people("alice", "bob")
    await alice.direct(bob)
    phone, other = await devices(alice, alice)

    async def subscribe(device: Device) -> str:
        users = [f"user{n}" for n in range(200)]
        try:
            await device.do("presence:subscribe", {"userIds": users})
        except Refused as refusal:
            limit_of(refusal)
            return refusal.code
        return "OK"

    began = time.monotonic()
    answers = await asyncio.gather(
        *[subscribe(device) for _ in range(50) for device in (phone, other)]
    )
    passed = answers.count("OK")
    assert {*answers} == {"OK", "RATE_LIMITED"}
    # Three tokens each, whichever of her devices asks.
    assert 34 <= passed <= 35 + 20 * (time.monotonic() - began) / 3


async def test_the_limits_of_a_user_do_not_hold_up_the_master_service(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    path = f"/conversations/{talk['id']}/messages"
    as_alice = {"X-User-Id": alice.id}
    answers = await asyncio.gather(
        *[people.master("POST", path, {"content": "By proxy"}, **as_alice) for _ in range(60)],
        *[people.master("POST", "/users/sync", {"externalUserId": alice.id}) for _ in range(60)],
    )
    assert {status for status, _ in answers} <= {200, 201}
    assert (await alice.request("POST", path, {"content": "By herself"}))[0] == 201
