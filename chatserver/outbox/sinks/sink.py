"""Where events end up: whatever takes them, one by one. A webhook is one; a queue would be another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ..event import Event


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one attempt. `detail` is for people: at most 200 characters, no secret, no URL."""

    outcome: Literal["delivered", "failed", "gone"]
    """`gone`: never try this event here again."""
    detail: str = ""
    retry_after_s: float = 0
    """How long the receiver asked to be left alone."""


class Sink(Protocol):
    async def deliver(self, event: Event, /) -> Delivery:
        """One attempt, within a bounded time. Raises nothing but CancelledError.

        An event may come again after a crash, under the same id.
        """
