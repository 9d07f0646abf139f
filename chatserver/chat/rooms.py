"""The interface through which the core reaches sockets. Each conversation has one room, and the sockets
of its participants are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..errors import ChatError
from ..realtime.rooms.update import RoomUpdate


class ConversationRooms(Protocol):
    """Reaches every socket on every node. A method that is not a coroutine has sent its data when it
    returns, and data is sent in the order of the calls."""

    @property
    def in_sync(self) -> bool:
        """True if this node knows everything that happened on the other nodes and may rely on its memory."""

    def tell(self, room: str, offset: int, update: RoomUpdate, *, seq: int = 0) -> None:
        """Announce a change that this node committed. It is applied after all changes with a lower offset.

        `seq`: the `seq` of the message, if the change is one.
        """

    def behind(self, room: str, after: int, known: int) -> None:
        """The log has changes up to `known` that were not announced here; those up to `after` were."""

    async def confirmed(self, room: str, offset: int) -> None:
        """Return when every node has applied `offset`; after a second at the latest."""

    def emit(self, room: str, event: str, payload: Any, *, notice: str) -> None:
        """Emit to every socket in the room, once per id `notice`. Notices and changes have no common order."""

    def emit_volatile(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        """Emit to the sockets in the room on this node, except `skip` and sockets that read slowly."""

    def hosts(self, user_id: str, room: str) -> bool:
        """True if the user is connected here and a member of the room.

        While the node is `in_sync`, True is as reliable as the database. False does not prove the opposite.
        """

    def sockets_of(self, user_id: str) -> int:
        """Returns how many sockets a user has on this node, including those that are connecting."""

    def rooms_of(self, user_id: str) -> Iterable[str]:
        """Returns the rooms of a user who is connected here."""

    def emit_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str, number: int
    ) -> None:
        """Emit an event about a user once to every socket in any of the rooms, except the user's own.

        The event is volatile. `number` grows with each such event of the user; the highest number counts.
        """

    def disconnect(self, user_id: str, reason: ChatError) -> None:
        """Send the reason to all sockets of a user on this node, and close them."""

    def on(self, name: str, handler: Callable[[Any], None]) -> None:
        """Call the handler with the data of each signal of this name, from a room update or another node."""

    def signal(self, name: str, data: Any, *, room: str | None) -> None:
        """Call the handlers on the other nodes that have members of the room; without a room, on all."""

    async def signalled(self, name: str, data: Any) -> None:
        """Call the handlers on all other nodes. Return when they have run, or after one second."""
