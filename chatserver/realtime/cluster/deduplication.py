"""Remembers the notices that were delivered. Catch-up then delivers no notice twice, and no state that a
later one has replaced."""

from __future__ import annotations

from collections import OrderedDict

from ..memory import Memory

MAX_REMEMBERED = 50_000
"""The most entries of each kind. The oldest are forgotten first."""


class SeenNotices:
    """The ids of the notices that were delivered."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()

    def watch(self, memory: Memory) -> None:
        memory("delivered notices", lambda: len(self._seen), MAX_REMEMBERED)

    def __contains__(self, notice: str) -> bool:
        return notice in self._seen

    def first(self, notice: str, at: float, forget: float) -> bool:
        """Record that the notice is delivered `at` this time, and forget notices from before `forget`.
        Returns False if the notice was delivered already."""
        seen = self._seen
        if notice in seen:
            return False
        seen[notice] = at
        while len(seen) > MAX_REMEMBERED or next(iter(seen.values())) < forget:
            seen.popitem(last=False)
        return True


class LatestStates:
    """The last state of each user that was delivered. Changes of a user have increasing numbers."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def watch(self, memory: Memory) -> None:
        memory("delivered states of users", lambda: len(self._latest), MAX_REMEMBERED)

    def knows(self, user_id: str, number: int) -> bool:
        """True if this change, or a later one, was delivered."""
        return self._latest.get(user_id, (-1, ""))[0] >= number

    def is_news(self, user_id: str, number: int, state: str) -> bool:
        """Record the change. Returns False if this change or a later one was delivered already, or if the
        state is the same as the last one that was delivered."""
        last, before = self._latest.get(user_id, (-1, ""))
        if number <= last:
            return False
        self._latest[user_id] = (number, state)
        self._latest.move_to_end(user_id)
        if len(self._latest) > MAX_REMEMBERED:
            self._latest.popitem(last=False)
        return state != before
