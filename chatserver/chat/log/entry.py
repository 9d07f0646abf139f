"""What the log is asked for, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ...mongo import Document
from ..message import Message, rev_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A committed change: the log entry, and the message as it is after it."""

    doc: Document
    message: Message

    @property
    def rev(self) -> int:
        return rev_of(self.doc["_id"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: `entry` is None when there was nothing to change."""

    message: Message
    entry: Document | None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a change makes of a message, and what the log keeps of the change."""

    message: Message
    kind: str
    keeps: Mapping[str, Any]
    for_all: bool = True
    """False: the message itself stays as it is (it was hidden from one user)."""


class Change(Protocol):
    """A change of one message."""

    @property
    def message_id(self) -> str: ...

    def apply(self, message: Message, at: datetime) -> Applied | None:
        """The change applied, or None when it changes nothing. Raises ChatError to refuse.

        It may run several times, and must depend on nothing but its arguments.
        """
