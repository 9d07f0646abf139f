"""The people and conversations of the demo, the same at each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...development import PEOPLE


@dataclass(frozen=True)
class ScriptedConversation:
    """A conversation of the demo. The first of its cast creates it."""

    key: str
    type: str
    cast: Sequence[str]
    name: str | None = None
    pause_s: float = 8.0
    """The average pause between two scenes."""


CONVERSATIONS = (
    ScriptedConversation("lunch", "group", ("alice", "bob", "carol", "farid"), "Lunch", 6.0),
    ScriptedConversation(
        "release", "group", ("grace", "alice", "dmitri", "elena", "henrik"), "Release 2.4", 9.0
    ),
    ScriptedConversation("hike", "group", ("elena", "carol", "henrik", "bob"), "Sunday hike", 12.0),
    ScriptedConversation(
        "news",
        "channel",
        ("grace", *(person.id for person in PEOPLE if person.id != "grace")),
        "News",
        25.0,
    ),
    ScriptedConversation("alice-bob", "direct", ("alice", "bob"), None, 10.0),
    ScriptedConversation("dmitri-grace", "direct", ("dmitri", "grace"), None, 14.0),
)
