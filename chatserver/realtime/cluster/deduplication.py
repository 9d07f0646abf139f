"""What was told lately of what has no offset in the order of a room, so that nothing of it is told again
by who finds it on record, and nothing older comes after it."""

from __future__ import annotations

from collections import OrderedDict

MOST = 50_000
"""Of each kind; what was told before these is not remembered."""


class Notices:
    """Notices, each of which is told once. Those that were told before `forget()` says are forgotten."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, notice: str) -> bool:
        return notice in self._told

    def first(self, notice: str, at: float, forget: float) -> bool:
        """Note that it is told, `at`, and forget those of before `forget`. False when it was told."""
        told = self._told
        if notice in told:
            return False
        told[notice] = at
        while len(told) > MOST or next(iter(told.values())) < forget:
            told.popitem(last=False)
        return True


class States:
    """What was told last of each, by numbers that grow with each change of it."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def knows(self, whose: str, number: int) -> bool:
        """Whether this change, or a later one, was told."""
        return self._told.get(whose, (-1, ""))[0] >= number

    def is_news(self, whose: str, number: int, state: str) -> bool:
        """Note that it is told. False when a later change was told, or this one, or another one to the
        same state: what was between has passed."""
        last, before = self._told.get(whose, (-1, ""))
        if number <= last:
            return False
        self._told[whose] = (number, state)
        self._told.move_to_end(whose)
        if len(self._told) > MOST:
            self._told.popitem(last=False)
        return state != before
