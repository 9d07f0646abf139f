"""The parameters of a run, and the members of its conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    users: int
    conversations: int
    members: int
    """Members per conversation. They have consecutive numbers, and after the last user comes the first."""
    seconds: float
    ramp_s: float
    """The connects are spread over this time."""
    rate: float | None
    """Messages per second, even if the server cannot keep up. None: use `in_flight`."""
    in_flight: int
    """Without a rate: the number of messages that await their acknowledgement at any time."""
    size: int
    """Characters per message."""
    settle_s: float = 15.0
    """Deliveries that have not arrived this long after the last message are lost."""

    def user_ids(self) -> Sequence[str]:
        return [f"load-{n:05}" for n in range(self.users)]

    def members_of(self, conversation: int) -> Sequence[int]:
        """The numbers of the members. Each user is in about `conversations * members / users` conversations."""
        first = conversation * self.members
        return [(first + n) % self.users for n in range(self.members)]
