"""Puts the people and their conversations on a server: those that are missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...development import PEOPLE
from ..client.api import Api, segment
from ..client.failures import RefusedByServer
from .cast import STAGES, Stage

MARK = "demo"
"""In the metadata of a conversation: which one of the demo's it is."""


async def set_up(api: Api) -> Mapping[str, str]:
    """The ids of the conversations, by the keys of their stages. Running it again changes nothing.

    Raises RefusedByServer, Unreachable.
    """
    users = [{"externalUserId": one.id, "name": one.name, "status": "active"} for one in PEOPLE]
    done = await api.ask("POST", "/users/sync/batch", {"users": users})
    for failed in done["failed"]:
        raise RefusedByServer(failed["error"])
    return {stage.key: await _conversation(api, stage) for stage in STAGES}


async def _conversation(api: Api, stage: Stage) -> str:
    maker, *others = stage.cast
    if stage.type == "direct":
        body = {"userId": others[0]}
        return str((await api.ask("POST", "/conversations/direct", body, user=maker))["id"])
    found = await _oldest(api, stage)
    if found is None:
        new = {"type": stage.type, "name": stage.name, "participantIds": others}
        made = await api.ask(
            "POST", "/conversations", {**new, "metadata": {MARK: stage.key}}, user=maker
        )
        # Of two that are run at the same moment, both take the one that was first.
        found = await _oldest(api, stage) or made
        if made["id"] != found["id"]:
            await api.ask("DELETE", f"/conversations/{segment(made['id'])}", user=maker)
    await _complete(api, stage, found)
    return str(found["id"])


async def _oldest(api: Api, stage: Stage) -> Any:
    found, cursor = [], ""
    while True:
        page = await api.ask("GET", f"/conversations?limit=200{cursor}", user=stage.cast[0])
        found += [one for one in page["items"] if one["metadata"].get(MARK) == stage.key]
        if not page["nextCursor"]:
            return min(found, key=lambda one: (one["createdAt"], one["id"]), default=None)
        cursor = f"&cursor={segment(page['nextCursor'])}"


async def _complete(api: Api, stage: Stage, conversation: Mapping[str, Any]) -> None:
    there = {one["userId"] for one in conversation["participants"]}
    missing = [one for one in stage.cast if one not in there]
    if missing:
        path = f"/conversations/{segment(conversation['id'])}/participants"
        await api.ask("POST", path, {"userIds": missing}, user=stage.cast[0])
