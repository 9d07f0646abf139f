"""A client's copy of a conversation, updated by the events and pages that the server sends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

CHANGES = (
    "message:new",
    "message:updated",
    "message:deleted",
    "reaction:added",
    "reaction:removed",
)
GONE: dict[str, Any] = {
    "content": "",
    "attachments": [],
    "mentions": [],
    "metadata": {},
    "reactions": [],
    "isDeleted": True,
}


class Copy:
    """The messages of a client that has applied every event and every page."""

    def __init__(self) -> None:
        self.messages: dict[str, Any] = {}
        self.rev = 0
        """The last rev that this client has seen."""

    @property
    def in_order(self) -> list[Any]:
        return sorted(self.messages.values(), key=lambda message: message["seq"])

    def hear(self, events: Iterable[tuple[str, Any]]) -> None:
        for name, told in events:
            if name in CHANGES:
                self._apply(name, told)
                self.rev = max(self.rev, told["rev"])

    def take(self, page: Iterable[Any]) -> None:
        """Takes the messages of a sync, except those that an event has already made newer."""
        for message in page:
            known = self.messages.get(message["id"])
            if known is None or known["rev"] <= message["rev"]:
                self.messages[message["id"]] = message

    def _apply(self, name: str, told: Any) -> None:
        if name == "message:new":
            self.messages.setdefault(told["id"], told)
            return
        message = self.messages.get(told["messageId"])
        if message is None or told["rev"] <= message["rev"]:
            return  # the running sync returns this change, or has returned it
        message = self.messages[message["id"]] = {**message, "rev": told["rev"]}
        if message["isDeleted"]:
            return  # the user has hidden it, and others still change or delete it
        if name == "message:deleted":
            message |= {**GONE, "deletedAt": told["deletedAt"], "updatedAt": told["deletedAt"]}
        elif name == "message:updated":
            message |= {key: told[key] for key in ("content", "isEdited", "updatedAt")}
        else:
            message["reactions"] = _reacted(message["reactions"], name, told)


def _reacted(reactions: list[Any], name: str, told: Any) -> list[Any]:
    after = {reaction["emoji"]: list(reaction["userIds"]) for reaction in reactions}
    users = after.setdefault(told["emoji"], [])
    if name == "reaction:added" and told["userId"] not in users:
        users.append(told["userId"])
    elif name == "reaction:removed" and told["userId"] in users:
        users.remove(told["userId"])
    return [
        {"emoji": emoji, "count": len(ids), "userIds": ids} for emoji, ids in after.items() if ids
    ]
