"""The version of the server from which this one must be reachable by a rolling upgrade.

tests/data/previous-version.tar.xz is `git archive 804bd7f chatserver | xz -9e`: the last state in which neither
the database nor the nodes told their versions. Each release replaces it by its own.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from .servers import ROOT, ChatServer

ARCHIVE = ROOT / "tests" / "data" / "previous-version.tar.xz"


def previous_version(folder: Path, *args: str, **settings: str) -> ChatServer:
    """Returns a server of that version. It runs in the environment of this version."""
    server = ChatServer(*args, folder / "log", **settings)
    server.cwd = folder / "code"
    with tarfile.open(ARCHIVE) as archive:
        # Python imports from the current folder first.
        archive.extractall(server.cwd, filter="data")
    return server
