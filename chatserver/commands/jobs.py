"""`chatserver jobs`: lists the background jobs of a running server, with their progress."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .internal_api import AsJson, AtServer, Server, add_row, ask, new_table, print_json, show


def jobs(server: AtServer = None, as_json: AsJson = False) -> None:
    """List the background jobs that are not done: deletions of users and of conversations, and regular cleaning."""
    items = asyncio.run(_collect(Server(server)))
    if as_json:
        print_json({"items": items})
    else:
        _print(items)


def _print(items: list[Mapping[str, Any]]) -> None:
    table = new_table("kind", "user or conversation", "done", "state", "since", "error")
    for job in items:
        total = "" if job["total"] is None else f" of {job['total']:,}"
        add_row(
            table,
            job["kind"],
            job["subject"] or "-",
            f"{job['done']:,}{total}",
            "running" if job["isRunning"] else f"next step {job['nextAt']}",
            job["addedAt"],
            f"{job['error']} ({job['attempts']} times)" if job["error"] else "-",
        )
    show(table, "There are no jobs.")


async def _collect(server: Server) -> list[Mapping[str, Any]]:
    items: list[Mapping[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask(server, "GET", "/jobs", params={**cursor, "limit": 200})
        items += page["items"]
        if page["nextCursor"] is None:
            return items
        cursor = {"cursor": page["nextCursor"]}
