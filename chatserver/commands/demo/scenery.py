"""Creates the people and conversations that are missing on the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...development import PEOPLE
from ..client.api import Api, segment
from ..client.failures import RefusedByServer
from .cast import CONVERSATIONS, ScriptedConversation

MARK = "demo"
"""The key in a conversation's metadata whose value is the key of the script."""


async def set_up(api: Api) -> Mapping[str, str]:
    """The ids of the conversations, by the keys of the scripts. A second call creates nothing.

    Raises RefusedByServer, Unreachable.
    """
    users = [
        {"externalUserId": person.id, "name": person.name, "status": "active"} for person in PEOPLE
    ]
    done = await api.ask("POST", "/users/sync/batch", {"users": users})
    for failed in done["failed"]:
        raise RefusedByServer(failed["error"])
    return {scripted.key: await _conversation(api, scripted) for scripted in CONVERSATIONS}


async def _conversation(api: Api, scripted: ScriptedConversation) -> str:
    maker, *others = scripted.cast
    if scripted.type == "direct":
        body = {"userId": others[0]}
        return str((await api.ask("POST", "/conversations/direct", body, user=maker))["id"])
    found = await _oldest(api, scripted)
    if found is None:
        new = {"type": scripted.type, "name": scripted.name, "participantIds": others}
        made = await api.ask(
            "POST", "/conversations", {**new, "metadata": {MARK: scripted.key}}, user=maker
        )
        # If two demos start at the same moment, both use the older conversation.
        found = await _oldest(api, scripted) or made
        if made["id"] != found["id"]:
            await api.ask("DELETE", f"/conversations/{segment(made['id'])}", user=maker)
    await _complete(api, scripted, found)
    return str(found["id"])


async def _oldest(api: Api, scripted: ScriptedConversation) -> Any:
    found, cursor = [], ""
    while True:
        page = await api.ask("GET", f"/conversations?limit=200{cursor}", user=scripted.cast[0])
        found += [item for item in page["items"] if item["metadata"].get(MARK) == scripted.key]
        if not page["nextCursor"]:
            return min(found, key=lambda item: (item["createdAt"], item["id"]), default=None)
        cursor = f"&cursor={segment(page['nextCursor'])}"


async def _complete(
    api: Api, scripted: ScriptedConversation, conversation: Mapping[str, Any]
) -> None:
    present = {participant["userId"] for participant in conversation["participants"]}
    missing = [user_id for user_id in scripted.cast if user_id not in present]
    if missing:
        path = f"/conversations/{segment(conversation['id'])}/participants"
        await api.ask("POST", path, {"userIds": missing}, user=scripted.cast[0])
