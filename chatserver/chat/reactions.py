"""Reactions: one per user, emoji and message."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import Conflict, ValidationFailed
from ..mongo import Session
from .log.entry import Applied, LoadMember
from .log.log import Log
from .membership import Members
from .message import Message, conversation_of, plain
from .messages import Messages
from .reaction_lists import ReactionLists


@dataclass(frozen=True, slots=True)
class Reaction:
    message_id: str
    emoji: str


@dataclass(frozen=True, slots=True)
class PageOfReactions:
    message_id: str
    emoji: str | None = None
    limit: int = 50
    cursor: str | None = None


MAX_EMOJI = 50
"""Different emoji on one message."""


class Reactions:
    def __init__(
        self, log: Log, members: Members, messages: Messages, lists: ReactionLists
    ) -> None:
        self._log = log
        self._members = members
        self._messages = messages
        self._lists = lists

    async def add(self, actor_id: str, reaction: Reaction) -> Mapping[str, Any]:
        """Add the actor's reaction. If it exists, nothing changes and nothing is announced."""
        return await self._change(actor_id, reaction, adds=True)

    async def remove(self, actor_id: str, reaction: Reaction) -> Mapping[str, Any]:
        return await self._change(actor_id, reaction, adds=False)

    async def _change(self, actor_id: str, asked: Reaction, *, adds: bool) -> Mapping[str, Any]:
        conversation_id = conversation_of(asked.message_id)
        await self._members.present(actor_id, conversation_id)
        change = _Change(asked.message_id, actor_id, asked.emoji, adds, self._lists)
        outcome = await self._log.change(actor_id, change)
        after = outcome.message.reaction(asked.emoji)
        return {
            "messageId": asked.message_id,
            "conversationId": conversation_id,
            # As it is in events: the form with which its first user reacted.
            "emoji": (outcome.entry or after)["emoji"],
            "userId": actor_id,
            "totalCount": outcome.message.count(after),
        }

    async def page(self, reader_id: str, asked: PageOfReactions) -> Mapping[str, Any]:
        """Returns the users of each emoji, `limit` in all, and the cursor of the next page.

        Emoji come in the order in which they were first used, and users in the order of reacting. A user who had
        reacted before the first page, and still has, is on a page. Raises ValidationFailed.
        """
        message = await self._messages.get(reader_id, asked.message_id)
        reactions = message.reactions
        if asked.emoji is not None:
            reactions = {key: reactions[key] for key in (plain(asked.emoji),) if key in reactions}
        began, last = _decoded(asked.cursor)
        keys = list(reactions)
        hashes = [_hash(key) for key in keys]
        if began in hashes:
            keys = keys[hashes.index(began) :]
        else:
            # Nobody reacts with that emoji any more, so its place in the order is not known.
            last = None
        found: list[tuple[str, str, int | None]] = []
        for key in keys:
            users = await self._lists.after(
                message, reactions[key], last, asked.limit + 1 - len(found)
            )
            last = None
            found += [(key, *user) for user in users]
            if len(found) > asked.limit:
                break
        shown: dict[str, list[str]] = {}
        for key, user_id, _ in found[: asked.limit]:
            shown.setdefault(key, []).append(user_id)
        return {
            "items": [
                {
                    "emoji": reactions[key]["emoji"],
                    "count": message.count(reactions[key]),
                    "userIds": user_ids,
                }
                for key, user_ids in shown.items()
            ],
            "nextCursor": _encoded(*found[asked.limit - 1]) if len(found) > asked.limit else None,
        }


def _hash(emoji: str) -> str:
    # An emoji itself may have invisible characters, which a cursor must not have.
    return hashlib.blake2b(emoji.encode(), digest_size=6).hexdigest()


def _encoded(emoji: str, user_id: str, number: int | None) -> str:
    return f"{_hash(emoji)}.{'' if number is None else number}.{user_id}"


def _decoded(cursor: str | None) -> tuple[str | None, tuple[str, int | None] | None]:
    """Returns the hash of an emoji, and its last user as in `ReactionLists.after`."""
    if cursor is None:
        return None, None
    found = re.fullmatch(r"([0-9a-f]{12})\.([0-9]{0,15})\.(.+)", cursor)
    if found is None:
        raise ValidationFailed.of("cursor", "Not a cursor of this list.")
    began, number, user_id = found.groups()
    return began, (user_id, int(number) if number else None)


@dataclass(frozen=True, slots=True)
class _Change:
    message_id: str
    user_id: str
    emoji: str
    adds: bool
    lists: ReactionLists

    async def apply(
        self, message: Message, at: datetime, member: LoadMember, session: Session
    ) -> Applied | None:
        if message.deleted_at:
            if self.adds:
                raise Conflict("The message was deleted.")
            return None
        before = message.reaction(self.emoji)
        if self.adds and not before["users"] and len(message.reactions) >= MAX_EMOJI:
            raise Conflict(f"A message can have at most {MAX_EMOJI} different emoji.")
        after = await self.lists.change(
            message, self.emoji, self.user_id, adds=self.adds, session=session
        )
        if after is None:
            return None
        fields = {
            "emoji": before["emoji"],
            "totalCount": after.count(after.reaction(self.emoji)),
        }
        return Applied(after, f"reaction.{'added' if self.adds else 'removed'}", fields)
