"""A user who is connecting, and the reason why one is sent away."""

from __future__ import annotations

from typing import Any, Protocol


class Reason(Protocol):
    """The reason why the server closes a socket."""

    @property
    def code(self) -> str: ...

    def wire(self) -> dict[str, Any]:
        """Returns the payload of the `error` event that the client receives."""


class Arrival:
    """A user who is connecting. Collects changes of the user's memberships while the server reads the user's
    rooms from the database."""

    __slots__ = ("changes", "complete", "revoked")

    def __init__(self) -> None:
        self.changes: dict[str, bool] = {}
        """By room: True if the user joined it, False if the user left it."""
        self.revoked: Reason | None = None
        """The reason to refuse the user after all, or None."""
        self.complete = True
        """False if `changes` may lack a change from after the user started to connect."""
