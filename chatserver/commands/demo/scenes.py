"""The dialogue, in this notation:

alice: …    sends a message
bob> …      replies to the last message
bob~ …      edits his own last message
carol+ 👍   reacts to the last message
bob-        deletes his own last message
{dish}      a random word of the list below, the same throughout a scene
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WORDS: Mapping[str, Sequence[str]] = {
    "dish": ("dumplings", "ramen", "falafel", "the soup", "tacos", "lasagne", "a curry", "pizza"),
    "place": ("the corner place", "the market hall", "the canteen", "that new place by the river"),
    "time": ("12:15", "12:30", "quarter to one", "noon sharp", "one o'clock"),
    "peak": ("Falkenstein", "the ridge trail", "Lake Orrin", "the old quarry", "Monte Sale"),
    "bug": ("the upload retry", "the sorting bug", "the time zone thing", "the flaky login test"),
    "number": ("3", "4", "7", "12", "18"),
    "weather": ("sunny", "a bit windy", "dry until four", "cloudy but warm"),
    "film": ("the documentary", "that heist film", "the one with the robots", "the new animation"),
}

SCENES: Mapping[str, Sequence[str]] = {
    "lunch": (
        """
        bob: Anyone up for {dish} today?
        alice+ 😋
        alice: Yes! {place}, {time}?
        farid> Works for me
        carol: I'm in a call until half past, save me a seat
        bob> Will do 👍
        carol+ 🙏
        """,
        """
        carol: {place} has {dish} on the menu again
        farid+ 🔥
        farid: Finaly
        farid~ Finally
        alice: Last time the queue was {number} minutes
        bob> Worth every one of them
        carol+ 😂
        alice: OK, {time} downstairs
        """,
        """
        farid: I made too much {dish} last night, it's in the fridge. Help yourselves!
        carol+ ❤️
        bob+ ❤️
        alice: You are a hero
        bob: Is there any left?
        carol> There was 😇
        bob+ 😭
        """,
    ),
    "release": (
        """
        grace: Where are we with {bug}?
        dmitri> Fix is up for review, {number} lines
        elena: Looking at it now
        elena: One question on the second commit, otherwise good
        dmitri> Answered, and added a test for it
        elena+ ✅
        grace: Lovely. Then we ship at {time}
        henrik+ 🚀
        alice+ 🚀
        """,
        """
        henrik: The nightly run failed, {number} tests red
        henrik: Never mind, wrong branch
        dmitri+ 😅
        grace: That counts as exercise
        henrik-
        alice: I saw that 👀
        henrik> You saw nothing
        """,
        """
        alice: Release notes are in the usual place, please read your parts
        grace: Typo in the heading: "Improvments"
        alice> Fixed, thanks!
        elena: {bug} deserves a line of its own
        alice> Added
        elena+ 🎉
        dmitri: Looks good to me
        dmitri~ Looks good to me, ship it
        """,
    ),
    "hike": (
        """
        elena: Forecast for Sunday: {weather}. {peak}?
        carol+ ⛰️
        henrik: I'm in. Train at {time}?
        bob> Too early, but yes
        carol: I'll bring {dish}
        elena+ 😍
        """,
        """
        carol: How long is the way up to {peak}?
        elena> About {number} km, it's flatter than it looks
        bob: That's what you said last time
        carol+ 😂
        elena~ About {number} km, mostly flat. Mostly.
        henrik: My knees remember
        """,
    ),
    "news": (
        """
        grace: Reminder: the kitchen on the third floor is closed until {time}
        bob+ 😢
        farid+ 👍
        """,
        """
        grace: Team evening on Thursday: {film}, and {dish} after it. React if you come!
        alice+ 🎬
        elena+ 🎬
        henrik+ 🎬
        bob+ 🍿
        """,
        """
        grace: Please welcome Farid, who joins us today!
        farid: Thank you, happy to be here
        carol+ 👋
        dmitri+ 👋
        alice+ 👋
        """,
    ),
    "alice-bob": (
        """
        alice: Have you seen {film} yet?
        bob> Not yet, is it good?
        alice: The first hour is great. Then it goes on for two more
        bob+ 😂
        """,
        """
        bob: Do you have {number} minutes for {bug} later?
        alice> Sure, after {time}
        bob: You're the best
        bob+ 🙏
        alice: I know
        """,
        """
        alice: Did you take my charger?
        bob: No
        bob~ Yes, it's on your desk again
        alice+ 😤
        bob: Sorry! I owe you {dish}
        """,
    ),
    "dmitri-grace": (
        """
        grace: Can you cover for me at {time}?
        dmitri> Yes. Anything I should know?
        grace: Just nod when somebody says {bug}
        dmitri+ 🫡
        """,
        """
        dmitri: I think I found the reason for {bug}
        grace+ 👀
        dmitri: It was a comma
        grace> It's always a comma
        """,
    ),
}

LINE = re.compile(r"(\w+)([:>~+-]) ?(.*)")
KINDS = {":": "say", ">": "answer", "~": "correct", "+": "react", "-": "take back"}


@dataclass(frozen=True)
class ScriptLine:
    who: str
    kind: str
    text: str


def scene(text: str, chance: random.Random) -> list[ScriptLine]:
    """The lines of a scene, with random words filled in."""
    words = {key: chance.choice(values) for key, values in WORDS.items()}
    lines = []
    for line in text.split("\n"):
        if line.strip():
            found = LINE.fullmatch(line.strip())
            if not found:
                raise ValueError(f"not a line of a scene: {line}")
            spoken = found[3].format_map(words)
            lines.append(ScriptLine(found[1], KINDS[found[2]], spoken[:1].upper() + spoken[1:]))
    return lines


def endless(key: str, chance: random.Random) -> Iterator[list[ScriptLine]]:
    """All scenes of a conversation in random order, repeated endlessly."""
    while True:
        scenes = list(SCENES[key])
        chance.shuffle(scenes)
        for text in scenes:
            yield scene(text, chance)
