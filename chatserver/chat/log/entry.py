"""The types of the log: requested changes, their outcomes, and committed entries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ...mongo import Document, Session
from ...observability.spans import ChangeTrace
from ..membership import Member
from ..message import Message, offset_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed change: the log entry, and the message or conversation as it is after the change."""

    doc: Document
    message: Message | None
    """None for a change of the conversation itself."""
    view: Mapping[str, Any] | None = None
    """The conversation, if it or its members have changed."""
    own_views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The conversation as seen by users who joined it again, and had hidden messages in it."""
    trace: ChangeTrace | None = None

    @property
    def offset(self) -> int:
        return offset_of(self.doc["_id"])

    @property
    def rev(self) -> int:
        rev: int = self.doc["lastRev"]
        return rev


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a request. `entry` is None if there was nothing to change."""

    message: Message
    entry: Document | None


@dataclass(frozen=True, slots=True)
class Applied:
    """A message after a change, and the kind and further `fields` of the log entry."""

    message: Message
    kind: str
    fields: Mapping[str, Any]
    for_all: bool = True
    """False if one user hid the message. The message itself is then unchanged."""


@dataclass(frozen=True, slots=True)
class ConversationChange:
    """A change of a conversation itself, as made by its transaction."""

    kind: str
    at: datetime
    fields: Mapping[str, Any]
    """Further fields of the log entry."""
    view: Mapping[str, Any] | None = None
    """The conversation after the change."""
    own_views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """See `Entry`."""


ConversationTransaction = Callable[[Session, int, int], Awaitable[ConversationChange | None]]
"""Makes a change of a conversation. Its arguments are those of the call in `Log.change_conversation`."""

LoadMember = Callable[[str], Awaitable[Member]]
"""Loads a participant, by user id, as of the transaction of the change. Raises NotFound."""


class Change(Protocol):
    """A change of one message."""

    @property
    def message_id(self) -> str: ...

    async def apply(
        self, message: Message, at: datetime, member: LoadMember, session: Session
    ) -> Applied | None:
        """Returns the result of the change, or None if nothing changes. Raises ChatError to refuse.

        It may run several times, and must depend only on its arguments. A change that needs a permission
        loads its actor with `member` and asks the policy. What it stores beside the message, it stores in
        `session`, and only if something changes.
        """
