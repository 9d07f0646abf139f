"""Reactions: one per user, emoji and message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import Conflict
from .log.entry import Applied, LoadMember
from .log.log import Log
from .membership import Members
from .message import Message, conversation_of, plain, reactions_wire
from .messages import Messages


@dataclass(frozen=True, slots=True)
class Reaction:
    message_id: str
    emoji: str


MAX_EMOJI = 50
"""Different emoji on one message."""


class Reactions:
    def __init__(self, log: Log, members: Members, messages: Messages) -> None:
        self._log = log
        self._members = members
        self._messages = messages

    async def add(self, actor_id: str, reaction: Reaction) -> Mapping[str, Any]:
        """Add the actor's reaction. If it exists, nothing changes and nothing is announced."""
        return await self._change(
            actor_id, reaction, _Add(reaction.message_id, actor_id, reaction.emoji)
        )

    async def remove(self, actor_id: str, reaction: Reaction) -> Mapping[str, Any]:
        return await self._change(
            actor_id, reaction, _Remove(reaction.message_id, actor_id, reaction.emoji)
        )

    async def _change(
        self, actor_id: str, reaction: Reaction, change: _Add | _Remove
    ) -> Mapping[str, Any]:
        conversation_id = conversation_of(reaction.message_id)
        await self._members.present(actor_id, conversation_id)
        outcome = await self._log.change(actor_id, change)
        after = outcome.message.reaction(reaction.emoji)
        return {
            "messageId": reaction.message_id,
            "conversationId": conversation_id,
            # As it is in events: the form with which its first user reacted.
            "emoji": (outcome.entry or after)["emoji"],
            "userId": actor_id,
            "totalCount": len(after["users"]),
        }

    async def of(self, reader_id: str, message_id: str) -> Mapping[str, Any]:
        return {"items": reactions_wire(await self._messages.get(reader_id, message_id))}


@dataclass(frozen=True, slots=True)
class _Add:
    message_id: str
    user_id: str
    emoji: str

    async def apply(self, message: Message, at: datetime, member: LoadMember) -> Applied | None:
        if message.deleted_at:
            raise Conflict("The message was deleted.")
        reaction = message.reaction(self.emoji)
        users = reaction["users"]
        if self.user_id in users:
            return None
        if not users and len(message.reactions) >= MAX_EMOJI:
            raise Conflict(f"A message can have at most {MAX_EMOJI} different emoji.")
        return _applied(message, "reaction.added", reaction["emoji"], [*users, self.user_id])


@dataclass(frozen=True, slots=True)
class _Remove:
    message_id: str
    user_id: str
    emoji: str

    async def apply(self, message: Message, at: datetime, member: LoadMember) -> Applied | None:
        reaction = message.reaction(self.emoji)
        users = reaction["users"]
        if self.user_id not in users:
            return None
        rest = [user_id for user_id in users if user_id != self.user_id]
        return _applied(message, "reaction.removed", reaction["emoji"], rest)


def _applied(message: Message, kind: str, emoji: str, users: list[str]) -> Applied:
    reactions = {**message.reactions, plain(emoji): {"emoji": emoji, "users": users}}
    after = [reaction for reaction in reactions.values() if reaction["users"]]
    return Applied(
        message.with_(reactions=after or None), kind, {"emoji": emoji, "totalCount": len(users)}
    )
