"""The changes of a message that the log applies: edit, delete for everyone, hide from oneself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import Conflict, Forbidden, ValidationFailed
from ..mongo import Session
from . import policy
from .log.entry import Applied, LoadMember
from .message import Message
from .reaction_lists import ReactionLists
from .text import shows_nothing


@dataclass(frozen=True, slots=True)
class Edit:
    message_id: str
    actor_id: str
    content: str

    async def apply(
        self, message: Message, at: datetime, member: LoadMember, session: Session
    ) -> Applied | None:
        if message.sender_id != self.actor_id:
            raise Forbidden("Only the sender can edit a message.")
        if message.deleted_at:
            raise Conflict("The message was deleted.")
        if shows_nothing(self.content) and "attachments" not in message.doc:
            raise ValidationFailed.of(
                "content", "Must have a visible character, unless the message has an attachment."
            )
        if message.content == self.content:
            return None
        return Applied(message.with_(content=self.content, isEdited=True, updatedAt=at), "edit", {})


@dataclass(frozen=True, slots=True)
class Delete:
    message_id: str
    actor_id: str
    reactions: ReactionLists

    async def apply(
        self, message: Message, at: datetime, member: LoadMember, session: Session
    ) -> Applied | None:
        if message.sender_id != self.actor_id and not policy.allows(
            await member(self.actor_id), "manageMessages"
        ):
            raise Forbidden("Only the sender or an admin can delete a message for everyone.")
        if message.deleted_at:
            return None
        await self.reactions.end(message, session)
        return Applied(message.emptied(at), "delete", {})


@dataclass(frozen=True, slots=True)
class Hide:
    message_id: str
    user_id: str

    async def apply(
        self, message: Message, at: datetime, member: LoadMember, session: Session
    ) -> Applied | None:
        if message.deleted_at:
            return None
        fields: dict[str, Any] = {
            "hiddenFor": self.user_id,
            "hiddenSeq": message.seq,
            "hiddenSender": message.sender_id,
            "wasEdited": "isEdited" in message.doc,
        }
        return Applied(message.emptied(at), "hide", fields, for_all=False)
