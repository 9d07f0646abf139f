"""The version of the server from which this one must be reachable by a rolling upgrade."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .servers import ROOT, ChatServer

PREVIOUS = "804bd7f90fc3b660e40a198f2d0a6bae4e275574"
"""The last commit before the database and the nodes told their versions. With each release: its tag."""


def unpack(folder: Path) -> None:
    """Unpacks that version. A clone without its history fetches it."""
    if subprocess.run(["git", "cat-file", "-e", f"{PREVIOUS}^{{commit}}"], cwd=ROOT).returncode:
        subprocess.run(["git", "fetch", "--depth=1", "origin", PREVIOUS], cwd=ROOT, check=True)
    archive = subprocess.run(
        ["git", "archive", PREVIOUS, "chatserver"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    )
    folder.mkdir()
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)


def previous_version(folder: Path, *args: str, **settings: str) -> ChatServer:
    """Returns a server of that version. It runs in the environment of this version."""
    server = ChatServer(*args, folder / "log", **settings)
    unpack(folder / "code")
    # Python imports from the current folder first.
    server.cwd = folder / "code"
    return server
