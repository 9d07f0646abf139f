"""The walk of a send in docs/design.md names every file that a `message:send` passes, and they are few."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.people import People, devices
from tests.support.raw import when
from tests.support.servers import ROOT, ChatServer

MOST = 25
TRIES = 4
QUIET_S = 0.7
"""Longer than the pause after which the time of a conversation's last message is written."""
WEBSOCKET = "realtime/engine/websocket.py"
"""Reads the first frame and writes the last one."""
BESIDE = {"_keep"}
"""Tasks that a send wakes, but does not wait for (tasks.keep)."""


class RecordedServer(ChatServer):
    python = (sys.executable, "tests/support/recorded.py")


def named() -> set[str]:
    """Returns the files that the walk names, up to the delivery on another node."""
    page = (ROOT / "docs/design.md").read_text()
    walk = page.partition("## One message, step by step")[2].partition("**Node B")[0]
    return set(re.findall(r"`([a-z_/]+\.py)`", walk))


async def test_a_send_passes_few_files_and_the_walk_names_them_all(
    mongo_url: str, worker: str, tmp_path: Path, people_of: Callable[[ChatServer], People]
) -> None:
    recorded = tmp_path / "recorded"
    server = RecordedServer(
        mongo_url,
        f"walk-{worker}",
        tmp_path / "log",
        RATE_LIMITS="on",
        LOG_LEVEL="warning",
        RECORDED=str(recorded),
    )
    await server.start()
    try:
        people = people_of(server)
        alice, bob = people("alice", "bob")
        talk = await alice.group(bob)
        desk, phone = await devices(alice, bob)
        passed: list[list[str]] = []
        # The first one reads the end of the log. Whatever does not happen each time is not a part of the send.
        for n in range(-1, TRIES):
            await asyncio.sleep(QUIET_S)
            recorded.unlink(missing_ok=True)
            server.signal(signal.SIGUSR1)
            await desk.say(talk, f"{n}", clientMessageId=f"{n}")
            await phone.hears("message:new")
            server.signal(signal.SIGUSR2)
            await when(recorded.exists)
            calls = json.loads(recorded.read_text())
            files = [file for file, task in calls if task not in BESIDE]
            first, last = files.index(WEBSOCKET), files[::-1].index(WEBSOCKET)
            passed.append(list(dict.fromkeys(files[first : len(files) - last])))
        always = set(passed[1]).intersection(*passed[2:])
        order = [file for file in passed[1] if file in always]
    finally:
        await server.stop()
    assert order[:4] == [
        WEBSOCKET,
        "realtime/engine/session.py",
        "realtime/server/fast_path.py",
        "api/sockets/connection.py",
    ]
    assert [file for file in order if file not in named()] == []
    assert len(order) <= MOST, "\n".join(order)
