"""Who talks to whom, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    users: int
    conversations: int
    members: int
    """Of each conversation; neighbours share one, and the last ones with the first."""
    seconds: float
    ramp_s: float
    """Connecting is spread over it."""
    rate: float | None
    """Messages a second, whether the server keeps up or not; None: by `in_flight`."""
    in_flight: int
    """Without a rate: so many messages wait for their acknowledgement at any time."""
    size: int
    """Characters of a message."""
    settle_s: float = 15.0
    """What has not been delivered by then, after the last was said, is lost."""

    def user_ids(self) -> Sequence[str]:
        return [f"load-{n:05}" for n in range(self.users)]

    def members_of(self, conversation: int) -> Sequence[int]:
        """Numbers of users. Each is in about `conversations * members / users` of them."""
        first = conversation * self.members
        return [(first + n) % self.users for n in range(self.members)]
