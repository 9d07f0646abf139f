"""Runs `chatserver` and records which of its functions are called between SIGUSR1 and SIGUSR2.

usage: python tests/support/recorded.py -m chatserver ...
On SIGUSR2 the calls are written to the file RECORDED, as JSON: pairs of a module's path in the package, and the
coroutine of the task in which it was called (empty in a callback).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = f"{ROOT / 'chatserver'}/"
sys.path.insert(0, str(ROOT))

calls: list[tuple[str, str]] = []


def record(frame: FrameType, event: str, _: Any) -> None:
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(PACKAGE):
        task = asyncio.current_task()
        work: Any = task.get_coro() if task else None
        calls.append((name.removeprefix(PACKAGE), work.__qualname__ if work else ""))


def begin(*_: Any) -> None:
    calls.clear()
    sys.setprofile(record)


def end(*_: Any) -> None:
    sys.setprofile(None)
    target = Path(os.environ["RECORDED"])
    target.with_suffix(".new").write_text(json.dumps(calls))
    target.with_suffix(".new").rename(target)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    from chatserver.cli import main

    sys.argv = sys.argv[2:]
    main()
