"""The project's own JavaScript client: runs the tests of its parts with Node's test runner."""

from __future__ import annotations

import asyncio
import re
import subprocess

from tests.support.chatters import CLIENT, build


async def test_the_parts_of_the_client_do_what_they_promise() -> None:
    await asyncio.to_thread(build)
    command = ["node", "--test", "--test-reporter=spec", "test/"]
    ran = await asyncio.to_thread(
        subprocess.run, command, cwd=CLIENT, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert int(re.findall(r"pass (\d+)", ran.stdout)[-1]) > 100
