"""The interface of a sink, which takes events one by one. A webhook is a sink; a message queue could be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ..event import Event


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of one attempt. `detail` is for people: at most 200 characters, no secret, no URL."""

    outcome: Literal["delivered", "failed", "gone"]
    """`gone`: do not send this event here again."""
    detail: str = ""
    retry_after_s: float = 0
    """The pause that the receiver requested."""


class Sink(Protocol):
    async def deliver(self, event: Event, /) -> Delivery:
        """Make one attempt, within a bounded time. Raises only CancelledError.

        After a crash the same event may be delivered again, under the same id.
        """
