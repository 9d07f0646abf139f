"""Messages of the core to itself on other nodes, beside the changes of the log. Signals are not stored, and may be lost.

On the bus a signal is its kind and the list of its fields. During a rolling restart nodes of two versions exchange
signals, so the fields of a kind never change: a new meaning gets a new kind, which older nodes ignore.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self


class Signal:
    # Derived classes are not frozen: a frozen one takes six times as long to make, and each typing event makes one.
    __slots__: tuple[str, ...] = ()
    kind: ClassVar[str]

    def data(self) -> list[Any]:
        """Returns the fields in their order, as JSON can express them."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def of(cls, data: list[Any]) -> Self:
        """Returns the signal that `data` was made of."""
        make: Callable[..., Self] = cls
        return make(*data)


@dataclass(slots=True)
class ShutOut(Signal):
    """A user was blocked or deleted. Disconnect the user, and admit the user no more without asking the database."""

    kind = "shut out"
    user_id: str
    why: str


@dataclass(slots=True)
class Ended(Signal):
    """A conversation was deleted, and its participants are yet to be removed."""

    kind = "ended"
    conversation_id: str


@dataclass(slots=True)
class Hidden(Signal):
    """A user has hidden a message of the conversation from themselves, now or before the user left and came back. It is
    part of a room update."""

    kind = "hidden"
    user_id: str
    conversation_id: str


@dataclass(slots=True)
class Counted(Signal):
    """A conversation has another number of participants. It is part of a room update.

    `participants`: None if a node of an earlier version made the change, which does not tell it.
    """

    kind = "counted"
    conversation_id: str
    participants: int | None
    is_large: bool
    timestamp: str


Turn = Literal["lost", "first", "done"]
"""A node has lost a race for an offset; it asks to go first; it is done."""


@dataclass(slots=True)
class TakesTurns(Signal):
    """Nodes that write to one conversation at the same time take turns (see log/contention.py)."""

    kind = "turns"
    conversation_id: str
    turn: Turn


Indicator = Literal["typing", "recording"]


@dataclass(slots=True)
class IndicatorChanged(Signal):
    """A user has started or stopped typing or recording on the node."""

    kind = "activity"
    node: str
    conversation_id: str
    user_id: str
    indicator: Indicator
    active: bool
