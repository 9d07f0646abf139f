"""What the core announces with. One room per conversation; a user's sockets are in the rooms of the
conversations that the user participates in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from ..errors import ChatError


class Rooms(Protocol):
    """The way to every socket. Nothing here waits: what is emitted is on its way, in order."""

    def emit(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        """To every socket in the room, but `skip`."""

    def emit_fleeting(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        """As `emit`, but dropped for a socket that reads slowly."""

    def emit_to(self, user_id: str, event: str, payload: Any) -> None:
        """To every socket of a user."""

    def hosts(self, user_id: str, room: str) -> bool:
        """Whether the user is connected here and a member of the room.

        True is as good as the database's word; False says nothing.
        """

    def admit(self, room: str, user_ids: Iterable[str]) -> None:
        """Put these users' sockets into the room."""

    def expel(self, room: str, user_ids: Iterable[str]) -> None:
        """Take these users' sockets out of the room."""

    def rooms_of(self, user_id: str) -> Iterable[str]:
        """The rooms of a user who is connected here."""

    def neighbours(self, rooms: Iterable[str], event: str, payload: Any, *, but: str) -> None:
        """To everyone in any of the rooms, each socket once, but the user `but`; fleeting."""

    def disconnect(self, user_id: str, reason: ChatError) -> None:
        """Tell all sockets of a user why, and close them."""
