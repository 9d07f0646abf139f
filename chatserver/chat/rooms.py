"""What the core announces with. One room per conversation; a user's sockets are in the rooms of the
conversations that the user participates in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..errors import ChatError
from ..realtime.rooms.update import RoomUpdate


class Rooms(Protocol):
    """The way to every socket, on every node. What does not wait is on its way, in order."""

    @property
    def in_sync(self) -> bool:
        """Whether this node knows everything that happened on the other nodes, so that what it remembers
        counts."""

    def tell(self, room: str, offset: int, update: RoomUpdate, *, seq: int = 0) -> None:
        """A change that was committed here; it is applied after all that has a lower offset.

        `seq`: that of the message, if it is one.
        """

    def behind(self, room: str, after: int, known: int) -> None:
        """Changes up to `known` are on record that were not told here; those up to `after` were."""

    async def confirmed(self, room: str, offset: int) -> None:
        """Return when `offset` has been applied on every node, or nearly: within a second."""

    def emit(self, room: str, event: str, payload: Any, *, notice: str) -> None:
        """To every socket in the room, in no order with changes; once, by the id `notice`."""

    def emit_volatile(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        """To every socket in the room on this node, but `skip` and those that read slowly."""

    def hosts(self, user_id: str, room: str) -> bool:
        """Whether the user is connected here and a member of the room.

        While the rooms are `in_sync`, true is as good as the database's word; false says nothing.
        """

    def sockets_of(self, user_id: str) -> int:
        """How many sockets a user has on this node, with those on the way in."""

    def rooms_of(self, user_id: str) -> Iterable[str]:
        """The rooms of a user who is connected here."""

    def emit_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str, number: int
    ) -> None:
        """An event about a user, for the user's contacts: to every socket in any of the rooms once, but
        not to the user's own; volatile. `number` grows from one such event to the next; the last counts."""

    def disconnect(self, user_id: str, reason: ChatError) -> None:
        """Tell all sockets of a user on this node why, and close them."""

    def on(self, name: str, handler: Callable[[Any], None]) -> None:
        """Call the handler with what is signalled by this name, in an update or by another node."""

    def signal(self, name: str, data: Any, *, room: str | None) -> None:
        """To the handlers of the other nodes that have members of the room; without one, of all."""

    async def signalled(self, name: str, data: Any) -> None:
        """To the handlers of all other nodes; returns when they have run, or nearly: within a second."""
