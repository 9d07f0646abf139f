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
from .message import Message, conversation_of, reactions_wire
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
        return {
            "messageId": reaction.message_id,
            "conversationId": conversation_id,
            "emoji": reaction.emoji,
            "userId": actor_id,
            "totalCount": len(outcome.message.reacted(reaction.emoji)),
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
        users = message.reacted(self.emoji)
        if self.user_id in users:
            return None
        if not users and len(message.reactions) >= MAX_EMOJI:
            raise Conflict(f"A message can have at most {MAX_EMOJI} different emoji.")
        after = [reaction for reaction in message.reactions if reaction["emoji"] != self.emoji]
        index = next(
            (i for i, reaction in enumerate(message.reactions) if reaction["emoji"] == self.emoji),
            len(after),
        )
        after.insert(index, {"emoji": self.emoji, "users": [*users, self.user_id]})
        return Applied(
            message.with_(reactions=after),
            "reaction.added",
            {"emoji": self.emoji, "totalCount": len(users) + 1},
        )


@dataclass(frozen=True, slots=True)
class _Remove:
    message_id: str
    user_id: str
    emoji: str

    async def apply(self, message: Message, at: datetime, member: LoadMember) -> Applied | None:
        users = message.reacted(self.emoji)
        if self.user_id not in users:
            return None
        rest = [user_id for user_id in users if user_id != self.user_id]
        after = [
            {**reaction, "users": rest} if reaction["emoji"] == self.emoji else reaction
            for reaction in message.reactions
            if reaction["emoji"] != self.emoji or rest
        ]
        return Applied(
            message.with_(reactions=after or None),
            "reaction.removed",
            {"emoji": self.emoji, "totalCount": len(rest)},
        )
