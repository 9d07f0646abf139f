"""`chatserver load`: many users, and an end that says what became of what they said."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections import Counter
from typing import Any

import pytest

from chatserver.load.member import Heard
from chatserver.load.plan import Plan
from chatserver.load.tally import Tally, Times

from .command import begin, run
from .meddler import Meddler
from .servers import ChatServer, free_port

WRONG = "a-secret-that-this-server-has-never-heard-of"


async def test_everything_is_delivered_once_and_counted(server: ChatServer) -> None:
    options = ("--users", "12", "--conversations", "3", "--rate", "100", "--seconds", "2")
    ran = await run("load", *options, "--json", **server.env)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    sent = found["sent"]
    assert 100 < sent <= 200
    counts = {key: found[key] for key in ("acknowledged", "expected", "delivered")}
    assert counts == {"acknowledged": sent, "expected": sent * 4, "delivered": sent * 4}
    wrong = {key: found[key] for key in ("lost", "twice", "outOfOrder", "reconnected", "errors")}
    assert wrong == {"lost": 0, "twice": 0, "outOfOrder": 0, "reconnected": 0, "errors": {}}
    for name, count in {"connect": 12, "ack": sent, "delivery": sent * 4}.items():
        times = found["ms"][name]
        assert times["count"] == count
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
    assert "connected" in ran.err
    again = await run("load", *options, "--in-flight", "8", **server.env)
    assert (again.code, again.err) == (2, "Give --rate or --in-flight, not both.\n")


async def test_a_person_sees_progress_and_a_table(server: ChatServer) -> None:
    options = ("--users", "6", "--conversations", "2", "--in-flight", "4", "--seconds", "2.5")
    ran = await run("load", *options, **server.env)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("6 users, 2 conversations of 3, at http://127.0.0.1:")
    assert sum("deliveries/s" in line for line in lines) >= 2
    table = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert table["ms"] == ["p50", "p95", "p99", "max", "count"]
    assert all(len(table[row]) == 5 for row in ("connect", "ack", "delivery"))
    assert lines[-1].endswith("0 lost, 0 twice, 0 out of order.")


async def test_users_and_conversations_are_those_of_the_last_time(server: ChatServer) -> None:
    options = ("--users", "7", "--conversations", "2", "--members", "5", "--seconds", "0.5")
    seen = []
    for _ in range(2):
        async with begin("load", *options, "--json", **server.env) as running:
            ran = await running.end()
        assert ran.code == 0, ran.err
        seen.append(json.loads(ran.out)["expected"])
    assert all(seen)


async def test_two_at_the_same_time_do_not_take_each_other_for_losses(server: ChatServer) -> None:
    options = ("--users", "8", "--conversations", "2", "--rate", "60", "--seconds", "2", "--json")
    for ran in await asyncio.gather(*[run("load", *options, **server.env) for _ in range(2)]):
        assert ran.code == 0, ran.out


async def test_what_the_server_refuses_is_counted_by_code(start: Any) -> None:
    server = await start(RATE_LIMITS="on")
    options = ("--users", "2", "--conversations", "1", "--rate", "400", "--seconds", "2")
    ran = await run("load", *options, **server.env)
    assert ran.code == 0, ran.err
    assert "Errors: RATE_LIMITED " in ran.out
    assert "RATE_LIMITS=off for it lifts that." in ran.out


async def test_a_server_that_is_killed_meanwhile_loses_nothing(start: Any) -> None:
    server = await start()
    options = ("--users", "20", "--conversations", "4", "--rate", "100", "--seconds", "6")
    async with begin("load", *options, **server.env) as running:
        while " 0 deliveries/s" in await running.says(" deliveries/s"):
            pass
        await server.kill()
        await server.start()
        ran = await running.end(60)
    assert ran.code == 0, ran.out
    counts = re.search(r"^([\d,]+) of ([\d,]+) messages acknowledged", ran.out, re.MULTILINE)
    assert counts
    assert counts[1] == counts[2]
    assert "0 lost, 0 twice, 0 out of order." in ran.out
    assert "20 connections were lost and made again." in ran.out


async def test_what_a_server_leaves_out_doubles_or_swaps_is_found(server: ChatServer) -> None:
    """Between them stands one who does to the packets what no server may."""
    for fault, key in ((leave_out, "lost"), (double, "twice"), (swap, "outOfOrder")):
        async with Meddler(server.ws_port, fault) as between:
            ran = await run(
                *("load", "--users", "4", "--conversations", "1", "--rate", "30", "--seconds", "1"),
                *("--settle", "1", "--json", "--ws-url", f"http://127.0.0.1:{between.port}"),
                **server.env,
            )
        found = json.loads(ran.out)
        assert ran.code == 1, found
        assert found[key] >= 1, found
        assert not found["ok"]


async def test_ctrl_c_ends_it_early_with_what_there_is(server: ChatServer) -> None:
    options = ("--users", "6", "--conversations", "2", "--rate", "50", "--seconds", "600")
    for mode in ((), ("--in-flight", "8")):
        words = (*options[:4], *options[6:], *mode) if mode else options
        async with begin("load", *words, **server.env) as running:
            await running.says(" messages/s")
            await running.says(" messages/s")
            ran = await running.interrupt(signal.SIGINT)
        assert (ran.code, ran.err) == (0, "")
        assert "0 lost, 0 twice, 0 out of order." in ran.out


async def test_it_loads_only_what_it_may(server: ChatServer) -> None:
    for option in ("--url", "--ws-url"):
        for url in ("https://chat.example.com", "http://10.0.0.1:3001", "http://127.0.0.1.example"):
            ran = await run("load", option, url, **server.env)
            assert (ran.code, ran.out) == (2, "")
            assert ran.err.startswith(f"{url} is not on this machine: say --yes-load-this-server")
    ran = await run("load", **{**server.env, "ENV": "production"})
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("ENV is production: say --yes-load-this-server")


@pytest.mark.parametrize(
    ("options", "settings", "sentence"),
    [
        ((), {"PORT": "unused"}, "No chatserver answers at http://127.0.0.1:"),
        ((), {"WS_PORT": "unused"}, "Nobody could connect (no connection): see --ws-url"),
        ((), {"AUTH_JWT_SECRET": WRONG}, "Nobody could connect (connect: UNAUTHENTICATED)"),
        ((), {"INTERNAL_API_SECRET": WRONG}, "The server does not take this AUTH_JWT_SECRET or"),
        (("--members", "9"), {}, "A conversation would have 9 members: at most all users"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(
    server: ChatServer, options: tuple[str, ...], settings: dict[str, str], sentence: str
) -> None:
    given = {key: str(free_port()) if it == "unused" else it for key, it in settings.items()}
    words = ("--users", "4", "--conversations", "1", "--seconds", "1", "--ramp", "0", *options)
    ran = await run("load", *words, **{**server.env, **given})
    assert ran.code == (1 if settings else 2)
    assert ran.err.startswith(sentence), ran.err
    assert len(ran.err.splitlines()) == 1


def leave_out(frames: list[str]) -> list[str]:
    return frames[1:]


def double(frames: list[str]) -> list[str]:
    return [frames[0], *frames]


def swap(frames: list[str]) -> list[str]:
    return [*reversed(frames[:2]), *frames[2:]]


def test_percentiles_are_right_to_a_hundredth() -> None:
    times = Times()
    for n in range(1, 10_001):
        times.add(n / 1000)
    for share in (0.5, 0.95, 0.99):
        assert times.at(share) == pytest.approx(share * 10, rel=0.011)
    assert times.ms()["max"] == 10_000
    assert Times().at(0.99) == 0


def test_what_is_heard_is_told_apart() -> None:
    tally, heard = Tally(), Heard(10)
    assert [heard.take(seq, tally) for seq in (11, 12, 14, 13, 13, 16, 9)] == [
        *(True, True, True, True, False, True, False)
    ]
    assert (tally.twice, tally.out_of_order) == (2, 1)
    assert heard.lacks(16) == 1
    assert heard.lacks(18) == 3


def test_users_are_dealt_out_evenly() -> None:
    plan = Plan(10, 4, 5, 1.0, 0.0, 1.0, 0, 80)
    dealt = Counter(one for n in range(4) for one in plan.members_of(n))
    assert set(dealt.values()) == {2}
    assert all(len(set(plan.members_of(n))) == 5 for n in range(4))
