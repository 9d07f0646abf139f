"""The command `chatserver`, run to its end."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

from .servers import ROOT


@dataclass
class Ran:
    code: int | None
    out: str
    err: str


async def run(*words: str, **env: str) -> Ran:
    """Run `chatserver WORDS` with no settings but these."""
    clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "chatserver", *words),
        cwd=ROOT,
        env={**clean, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert b"Traceback" not in err, err.decode()
    return Ran(process.returncode, out.decode(), err.decode())
