"""Who is there, and where they talk: the same at each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...development import PEOPLE


@dataclass(frozen=True)
class Stage:
    """A conversation. The first of the cast makes it."""

    key: str
    type: str
    cast: Sequence[str]
    name: str | None = None
    pause_s: float = 8.0
    """Between two scenes, about."""


STAGES = (
    Stage("lunch", "group", ("alice", "bob", "carol", "farid"), "Lunch", 6.0),
    Stage("release", "group", ("grace", "alice", "dmitri", "elena", "henrik"), "Release 2.4", 9.0),
    Stage("hike", "group", ("elena", "carol", "henrik", "bob"), "Sunday hike", 12.0),
    Stage(
        "news", "channel", ("grace", *(one.id for one in PEOPLE if one.id != "grace")), "News", 25.0
    ),
    Stage("alice-bob", "direct", ("alice", "bob"), None, 10.0),
    Stage("dmitri-grace", "direct", ("dmitri", "grace"), None, 14.0),
)
