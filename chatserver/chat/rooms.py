"""The interface through which the core announces changes to sockets. Each conversation has one room, and
the sockets of its participants are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..errors import ChatError
from ..realtime.rooms.update import RoomUpdate


class ConversationRooms(Protocol):
    """Reaches every socket, on every node. A method that does not wait has sent when it returns, and what
    it sends is in order."""

    @property
    def in_sync(self) -> bool:
        """Whether this node knows everything that happened on the other nodes, so that what it remembers
        counts."""

    def tell(self, room: str, offset: int, update: RoomUpdate, *, seq: int = 0) -> None:
        """Announce a change that this node committed. It is applied after all changes with a lower offset.

        `seq`: the `seq` of the message, if the change is one.
        """

    def behind(self, room: str, after: int, known: int) -> None:
        """The log has changes up to `known` that were not announced here; those up to `after` were."""

    async def confirmed(self, room: str, offset: int) -> None:
        """Return when every node has applied `offset`; after a second at the latest."""

    def emit(self, room: str, event: str, payload: Any, *, notice: str) -> None:
        """Emit to every socket in the room, in no order with changes; once, by the id `notice`."""

    def emit_volatile(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        """Emit to every socket in the room on this node, but not to `skip` and those that read slowly."""

    def hosts(self, user_id: str, room: str) -> bool:
        """Whether the user is connected here and a member of the room.

        While the rooms are `in_sync`, true is as good as an answer of the database; false says nothing.
        """

    def sockets_of(self, user_id: str) -> int:
        """How many sockets a user has on this node, with those that are connecting."""

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
        """Call the handler with the data of each signal of this name, in an update or from another node."""

    def signal(self, name: str, data: Any, *, room: str | None) -> None:
        """Call the handlers on the other nodes that have members of the room; without a room, on all."""

    async def signalled(self, name: str, data: Any) -> None:
        """Call the handlers on all other nodes; return when they have run, after a second at the latest."""
