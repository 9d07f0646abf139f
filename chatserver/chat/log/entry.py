"""What the log is asked for, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ...mongo import Document
from ...observability.spans import ChangeTrace
from ..message import Message, offset_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed change: the log entry, and what it tells of as that is after it."""

    doc: Document
    message: Message | None
    """None: the change is of the conversation itself."""
    view: Mapping[str, Any] | None = None
    """The conversation, when it or its members have changed."""
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
    """What became of a request: `entry` is None when there was nothing to change."""

    message: Message
    entry: Document | None


@dataclass(frozen=True, slots=True)
class Applied:
    """A message after a change, and the log entry of the change: its kind, and `fields` that only such
    entries have."""

    message: Message
    kind: str
    fields: Mapping[str, Any]
    for_all: bool = True
    """False: the message itself stays as it is (it was hidden from one user)."""


@dataclass(frozen=True, slots=True)
class ConversationChange:
    """A change of a conversation itself, as its transaction has made it."""

    kind: str
    at: datetime
    fields: Mapping[str, Any]
    """Of the log entry: those that only entries of this kind have."""
    view: Mapping[str, Any] | None = None
    """The conversation after it."""


class Change(Protocol):
    """A change of one message."""

    @property
    def message_id(self) -> str: ...

    def apply(self, message: Message, at: datetime) -> Applied | None:
        """The change applied, or None when it changes nothing. Raises ChatError to refuse.

        It may run several times, and must depend on nothing but its arguments.
        """
