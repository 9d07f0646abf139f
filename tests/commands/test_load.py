"""`chatserver load`: many users, and a result that accounts for every delivery."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import shlex
import signal
import sys
import time
from collections import Counter
from typing import Any

import pytest
from typer.testing import CliRunner

from chatserver.cli import commands
from chatserver.commands.client.failures import CommandFailed
from chatserver.commands.load import files
from chatserver.commands.load.load_user import ReceivedMessages
from chatserver.commands.load.plan import Plan
from chatserver.commands.load.tally import Tally, Times
from tests.support.command import begin, run, run_in_terminal
from tests.support.servers import ROOT, ChatServer, free_port
from tests.support.tampering_proxy import Meddler

WRONG = "a-secret-that-this-server-has-never-heard-of"


async def test_everything_is_delivered_once_and_counted(server: ChatServer) -> None:
    options = ("--users", "12", "--conversations", "3", "--rate", "150", "--seconds", "1.2")
    ran = await run("load", *options, "--json", **server.env)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    sent = found["sent"]
    assert 90 < sent <= 180
    counts = {key: found[key] for key in ("acknowledged", "expected", "delivered", "connected")}
    assert counts == {
        "acknowledged": sent,
        "expected": sent * 4,
        "delivered": sent * 4,
        "connected": 12,
    }
    wrong = [found[key] for key in ("lost", "twice", "outOfOrder", "unanswered", "reconnected")]
    assert (wrong, found["errors"]) == ([0] * 5, {})
    for name, count in {"connect": 12, "ack": sent, "delivery": sent * 4}.items():
        times = found["ms"][name]
        assert times["count"] == count
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
    assert ran.err.startswith("12 users, 3 conversations of 4, at http://127.0.0.1:")
    assert " of 1.2 s  12 connected  " in ran.err


async def test_progress_and_a_table_are_printed(server: ChatServer) -> None:
    options = ("--users", "6", "--conversations", "2", "--in-flight", "4", "--seconds", "2.1")
    ran = await run("load", *options, **server.env)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("6 users, 2 conversations of 3, at http://127.0.0.1:")
    assert sum("deliveries/s" in line for line in lines) >= 2
    table = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert table["ms"] == ["p50", "p95", "p99", "max", "count"]
    assert all(len(table[row]) == 5 for row in ("connect", "ack", "delivery"))
    assert lines[-1].endswith("0 lost, 0 twice, 0 out of order.")


async def test_users_and_conversations_are_reused(server: ChatServer) -> None:
    options = ("--users", "7", "--conversations", "2", "--members", "5", "--seconds", "0.5")
    seen = []
    for _ in range(2):
        async with begin("load", *options, "--json", **server.env) as running:
            ran = await running.end()
        assert ran.code == 0, ran.err
        seen.append(json.loads(ran.out)["expected"])
    assert all(seen)


async def test_concurrent_runs_do_not_report_losses(server: ChatServer) -> None:
    options = ("--users", "8", "--conversations", "2", "--rate", "60", "--seconds", "1", "--json")
    for ran in await asyncio.gather(*[run("load", *options, **server.env) for _ in range(2)]):
        assert ran.code == 0, ran.out


async def test_refusals_are_counted_by_code(start: Any) -> None:
    server = await start(RATE_LIMITS="on")
    options = ("--users", "2", "--conversations", "1", "--rate", "600", "--seconds", "1")
    ran = await run("load", *options, **server.env)
    assert ran.code == 0, ran.err
    assert "Errors: RATE_LIMITED " in ran.out
    assert "RATE_LIMITS=off to lift that." in ran.out


async def test_nothing_is_lost_when_the_server_is_killed(start: Any) -> None:
    server = await start()
    options = ("--users", "20", "--conversations", "4", "--rate", "100", "--seconds", "3")
    async with begin("load", *options, **server.env) as running:
        await running.says(" deliveries/s")
        killed_at = time.monotonic()
        await server.kill()
        await server.start()
        outage_ms = 1000 * (time.monotonic() - killed_at)
        ran = await running.end(60)
    assert ran.code == 0, ran.out
    counts = re.search(r"^([\d,]+) of ([\d,]+) messages acknowledged", ran.out, re.MULTILINE)
    assert counts
    assert counts[1] == counts[2]
    # The outage shows in the times of all messages that were due during it.
    ack = re.search(r"^ack +[\d,.]+ +([\d,.]+)", ran.out, re.MULTILINE)
    assert ack
    assert float(ack[1].replace(",", "")) > outage_ms / 3
    assert "0 lost, 0 twice, 0 out of order." in ran.out
    assert "20 connections were lost and re-established." in ran.out


async def test_unanswered_messages_are_a_failure(start: Any) -> None:
    """Messages without an answer are in no percentile, so they must be reported."""
    server = await start()
    options = ("--users", "4", "--conversations", "1", "--rate", "50", "--seconds", "600")
    async with begin("load", *options, **server.env) as running:
        await running.says(" deliveries/s")
        await server.kill()
        await running.says(" 0 messages/s")
        running.process.send_signal(signal.SIGINT)
        assert " 0 connected  " in await running.says("waiting for the rest")
        ran = await running.interrupt()
    assert ran.code == 1
    assert ran.err == ""
    counts = re.search(r"^([\d,]+) messages were not answered by the end: ", ran.out, re.MULTILINE)
    assert counts
    assert f"\n{counts[1]} of " not in ran.out
    assert "0 lost, 0 twice, 0 out of order." in ran.out


async def test_dropped_doubled_and_swapped_messages_are_found(server: ChatServer) -> None:
    """A proxy drops, doubles or swaps packets."""

    for fault, key in ((leave_out, "lost"), (double, "twice"), (swap, "outOfOrder")):
        async with Meddler(server.ws_port, fault) as between:
            ran = await run(
                *("load", "--users", "4", "--conversations", "1", "--rate", "40"),
                *("--seconds", "0.5", "--settle", "0.5", "--json"),
                *("--ws-url", f"http://127.0.0.1:{between.port}"),
                **server.env,
            )
        found = json.loads(ran.out)
        assert ran.code == 1, found
        assert found[key] >= 1, found
        assert not found["ok"]


async def test_ctrl_c_stops_a_run_early_and_prints_the_result(server: ChatServer) -> None:
    options = ("--users", "6", "--conversations", "2", "--seconds", "600")

    async def cut_short(*mode: str) -> None:
        async with begin("load", *options, *mode, **server.env) as running:
            await running.says(" messages/s")
            ran = await running.interrupt(signal.SIGINT)
        assert (ran.code, ran.err) == (0, "")
        assert "0 lost, 0 twice, 0 out of order." in ran.out

    async def not_begun() -> None:
        async with begin("load", *options, "--ramp", "600", **server.env) as running:
            assert "connecting " in await running.says("  1 connected")
            ran = await running.interrupt(signal.SIGTERM)
        assert (ran.code, ran.err) == (1, "Stopped before any message was sent.\n")

    await asyncio.gather(cut_short("--rate", "50"), cut_short("--in-flight", "8"), not_begun())


async def test_progress_is_complete_in_a_narrow_terminal(server: ChatServer) -> None:
    options = ("--users", "4", "--conversations", "1", "--seconds", "1.2")
    shown = await run_in_terminal(50, "load", *options, **server.env)
    plain = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).split())
    assert re.search(
        r"\d of 1.2 s 4 connected \d+ messages/s \d+ deliveries/s p99 [\d.]+ ms", plain
    )
    assert "0 lost, 0 twice, 0 out of order." in plain


async def test_the_limit_of_open_files_is_raised_as_far_as_allowed(server: ChatServer) -> None:
    """Each user is an open file. `load` raises its limit, and fails with a sentence if it may not."""
    words = ["load", "--users", "60", "--conversations", "6", "--seconds", "0.3", "--json"]
    shell = await asyncio.create_subprocess_shell(
        f"ulimit -Sn 64; exec {shlex.join([sys.executable, '-m', 'chatserver', *words])}",
        env=server.env,
        cwd=ROOT,
        stdout=-1,
        stderr=-1,
    )
    out, err = await asyncio.wait_for(shell.communicate(), 20)
    assert shell.returncode == 0, err
    assert json.loads(out)["connected"] == 60
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(CommandFailed, match=r"users need as many open files.*ulimit -n"):
        files.allow(hard)


def test_load_refuses_other_machines_production_and_bad_options(server: ChatServer) -> None:
    urls = ("https://chat.example.com", "http://10.0.0.1:3001", "http://127.0.0.1.example")
    for option, url in (("--url", urls[0]), *[("--ws-url", url) for url in urls]):
        ran = CliRunner().invoke(commands, ["load", option, url], env=server.env)
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"{url} is not on this machine: use --yes-load-this-server")
    ran = CliRunner().invoke(commands, ["load", "--users", "4", "--members", "9"], env=server.env)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("A conversation would have 9 members: the limit is all users")
    ran = CliRunner().invoke(commands, ["load", "--rate", "9", "--in-flight", "8"], env=server.env)
    assert (ran.exit_code, ran.output) == (2, "Give --rate or --in-flight, not both.\n")
    ran = CliRunner().invoke(commands, ["load"], env={**server.env, "ENV": "production"})
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith("ENV is production: use --yes-load-this-server")


@pytest.mark.parametrize("option", ["--rate", "--settle", "--ramp", "--seconds"])
def test_infinite_values_are_refused(option: str) -> None:
    for value in ("inf", "nan"):
        ran = CliRunner().invoke(commands, ["load", option, value])
        assert ran.exit_code == 2
        assert f"Invalid value for '{option}'" in ran.stderr


async def test_what_is_wrong_is_said_in_a_sentence(server: ChatServer) -> None:
    cases = [
        ({"PORT": str(free_port())}, "No chatserver answers at http://127.0.0.1:"),
        ({"WS_PORT": str(free_port())}, "No user could connect (no connection): check --ws-url"),
        ({"AUTH_JWT_SECRET": WRONG}, "The server does not accept this AUTH_JWT_SECRET or"),
        ({"INTERNAL_API_SECRET": WRONG}, "The server does not accept this AUTH_JWT_SECRET or"),
    ]
    words = ("load", "--users", "4", "--conversations", "1", "--seconds", "1", "--ramp", "0")
    each = [run(*words, **{**server.env, **settings}) for settings, _ in cases]
    for (_, sentence), ran in zip(cases, await asyncio.gather(*each), strict=True):
        assert ran.code == 1
        assert ran.err.startswith(sentence), ran.err
        assert len(ran.err.splitlines()) == 1


def leave_out(frames: list[str]) -> list[str]:
    return frames[1:]


def double(frames: list[str]) -> list[str]:
    return [frames[0], *frames]


def swap(frames: list[str]) -> list[str]:
    return [*reversed(frames[:2]), *frames[2:]]


def test_percentiles_are_accurate_to_1_percent() -> None:
    times = Times()
    for n in range(1, 10_001):
        times.add(n / 1000)
    for share in (0.5, 0.95, 0.99):
        assert times.at(share) == pytest.approx(share * 10, rel=0.011)
    assert times.ms()["max"] == 10_000
    assert Times().at(0.99) == 0


def test_new_late_and_duplicate_messages_are_told_apart() -> None:
    tally, received = Tally(), ReceivedMessages(10)
    assert [received.hear(seq, tally) for seq in (11, 12, 14, 13, 13, 16, 9)] == [
        *(True, True, True, True, False, True, False)
    ]
    assert (tally.twice, tally.out_of_order) == (2, 1)
    assert received.lacks(16) == 1
    assert received.lacks(18) == 3


def test_users_are_divided_evenly() -> None:
    plan = Plan(10, 4, 5, 1.0, 0.0, 1.0, 0, 80)
    dealt = Counter(person for n in range(4) for person in plan.members_of(n))
    assert set(dealt.values()) == {2}
    assert all(len(set(plan.members_of(n))) == 5 for n in range(4))


def test_an_event_may_repeat_a_page_but_no_other_event() -> None:
    tally, received = Tally(), ReceivedMessages(4)
    received.connected()
    assert [received.read(seq, tally) for seq in (5, 6, 7)] == [True] * 3
    # 5 was announced before this connection; 6 and 7 are announced after the page was read.
    assert [received.hear(seq, tally) for seq in (6, 7, 8)] == [False, False, True]
    assert (tally.twice, tally.out_of_order) == (0, 0)
    assert not received.hear(8, tally)
    assert not received.hear(7, tally)
    assert not received.read(6, tally)
    assert tally.twice == 3
    assert received.hear(10, tally)
    assert received.lacks(upto=11) == 2
    assert received.hear(9, tally)
    assert (tally.twice, tally.out_of_order) == (3, 1)
    # A new connection starts after the last message that was received.
    received.connected()
    assert received.hear(11, tally)
    assert (tally.twice, received.lacks(upto=11)) == (3, 0)
