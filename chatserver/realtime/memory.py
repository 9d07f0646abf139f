"""How the parts of `realtime/` report what they keep in memory, to an application that wants to know."""

from __future__ import annotations

from collections.abc import Callable

Memory = Callable[[str, Callable[[], float], float | None], None]
"""Called with the name of a store, a function that returns the number of its entries now, and the most that it can have.
None instead: an entry ends with a socket, with a room or after a time."""


def unwatched(store: str, entries: Callable[[], float], at_most: float | None) -> None:
    """For an application that does not want to know."""
