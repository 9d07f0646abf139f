"""Remembers what was delivered outside the order of a room, so that the catch-up delivers nothing twice,
and nothing that a later change has replaced."""

from __future__ import annotations

from collections import OrderedDict

MAX_REMEMBERED = 50_000
"""Entries of each kind; the oldest are forgotten first."""


class SeenNotices:
    """The notices that were delivered, each of them once."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, notice: str) -> bool:
        return notice in self._seen

    def first(self, notice: str, at: float, forget: float) -> bool:
        """Note that the notice is delivered, `at`, and forget those from before `forget`. False when it
        was delivered already."""
        seen = self._seen
        if notice in seen:
            return False
        seen[notice] = at
        while len(seen) > MAX_REMEMBERED or next(iter(seen.values())) < forget:
            seen.popitem(last=False)
        return True


class LatestStates:
    """The last state of each user that was delivered. The changes of a user have growing numbers."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def knows(self, user_id: str, number: int) -> bool:
        """Whether this change, or a later one, was delivered."""
        return self._latest.get(user_id, (-1, ""))[0] >= number

    def is_news(self, user_id: str, number: int, state: str) -> bool:
        """Note the change. False when this change or a later one was delivered, or when the last change
        that was delivered had the same state."""
        last, before = self._latest.get(user_id, (-1, ""))
        if number <= last:
            return False
        self._latest[user_id] = (number, state)
        self._latest.move_to_end(user_id)
        if len(self._latest) > MAX_REMEMBERED:
            self._latest.popitem(last=False)
        return state != before
