"""Creates the people and conversations that are missing on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...development import PEOPLE
from ..client.api import Api, segment
from ..client.failures import RefusedByServer
from .cast import CONVERSATIONS, ScriptedConversation

MARK = "demo"
"""The key in a conversation's metadata whose value is the key of the script."""


AT_ONCE = 1000


async def set_up(api: Api, listeners: int) -> Mapping[str, str]:
    """The ids of the conversations, by the keys of the scripts. A second call creates nothing.

    `listeners`: members of channels who never connect.

    Raises RefusedByServer, Unreachable.
    """
    await _sync(api, [(person.id, person.name) for person in PEOPLE])
    made = {scripted.key: await _conversation(api, scripted) for scripted in CONVERSATIONS}
    for scripted in CONVERSATIONS:
        if scripted.type == "channel":
            await _fill(api, made[scripted.key], scripted.cast[0], listeners)
    return made


async def _sync(api: Api, people: Sequence[tuple[str, str]]) -> None:
    users = [
        {"externalUserId": user_id, "name": name, "status": "active"} for user_id, name in people
    ]
    done = await api.ask("POST", "/users/sync/batch", {"users": users})
    for failed in done["failed"]:
        raise RefusedByServer(failed["error"])


async def _fill(api: Api, conversation_id: str, maker: str, listeners: int) -> None:
    path = f"/conversations/{segment(conversation_id)}"
    missing = listeners + len(PEOPLE)
    missing -= (await api.ask("GET", path, user=maker))["participantCount"]
    for k in range(listeners - missing, listeners, AT_ONCE) if missing > 0 else ():
        numbers = range(k + 1, min(k + AT_ONCE, listeners) + 1)
        people = [(f"listener-{n:05}", f"Listener {n}") for n in numbers]
        await _sync(api, people)
        user_ids = [user_id for user_id, _ in people]
        await api.ask("POST", f"{path}/participants", {"userIds": user_ids}, user=maker)


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
