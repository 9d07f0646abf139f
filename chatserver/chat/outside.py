"""The needs of the core from outside: rooms of sockets on all nodes, the outbox, and timers. The processes supply them.

The core also imports `mongo/`, the metrics and spans of `observability/`, the events of `outbox/event.py`, and the
modules that every folder may use. `./scripts/lint` checks that it imports nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from ..errors import ChatError
from ..mongo import Session
from ..outbox.event import OutboxRecord
from .signals import Signal

# --- rooms: each conversation has one, and the sockets of its participants are in it --------------


class RoomUpdate(Protocol):
    """The effects of one change on a room. They take place in the order in which they were added."""

    def emit(self, name: str, payload: Any) -> None:
        """Send an event to every socket in the room."""

    def emit_to(self, user_id: str, name: str, payload: Any) -> None:
        """Send an event to every socket of the user, in the room or not."""

    def emit_to_each(self, user_ids: Iterable[str], name: str, payload: Any) -> None:
        """Send an event to every socket of several users, in the room or not. It is encoded once."""

    def admit(self, user_ids: Iterable[str]) -> None:
        """Users enter the room."""

    def expel(self, user_ids: Iterable[str]) -> None:
        """Users leave the room."""

    def dissolve(self, name: str, payload: Any) -> None:
        """Remove all members from the room, then send an event to every socket of each of them."""

    def signal(self, signal: Signal) -> None:
        """Call the handler of the signal's kind on every node that applies the update."""

    @property
    def moves(self) -> bool:
        """True if users enter or leave the room."""


Update = TypeVar("Update", bound=RoomUpdate)
S = TypeVar("S", bound=Signal)


class ClusterState(Protocol):
    """The state of this node among the others."""

    @property
    def in_sync(self) -> bool:
        """True if this node knows everything that happened on the other nodes and may rely on its memory."""

    @property
    def cut_off(self) -> bool:
        """True while this node cannot send messages to the other nodes."""

    def missed(self) -> None:
        """Request a catch-up: this node may have missed something."""


class ConversationRooms(ClusterState, Protocol):
    """Reaches every socket on every node. A method that is not a coroutine has sent its data when it
    returns, and data is sent in the order of the calls."""

    def behind(self, room: str, after: int, known: int) -> None:
        """The log has changes up to `known` that were not announced here; those up to `after` were."""

    async def confirmed(self, room: str, offset: int) -> None:
        """Return when every node has applied `offset`; after a second at the latest."""

    def emit(self, room: str, event: str, payload: Any, *, notice: str) -> None:
        """Emit to every socket in the room, once per id `notice`. Notices and changes have no common order."""

    def emit_to_user(self, user_id: str, event: str, payload: Any, *, notice: str) -> None:
        """The same for every socket of a user, in a room or not."""

    def emit_here(self, room: str, event: str, payload: Any) -> None:
        """Emit to the sockets in the room on this node."""

    def emit_volatile(self, room: str, event: str, payload: Any, *, skip: object = None) -> None:
        """Emit to the sockets in the room on this node, except `skip` and sockets that read slowly."""

    def follows(self, room: str) -> bool:
        """True if every further update of the room is applied on this node."""

    def on_unfollowed(self, handler: Callable[[str], object]) -> None:
        """Call `handler(room)` when this node no longer applies the updates of a room."""

    def hosts(self, user_id: str, room: str) -> bool:
        """True if the user is connected here and a member of the room.

        While the node is `in_sync`, True is as reliable as the database. False does not prove the opposite.
        """

    def sockets_of(self, user_id: str) -> int:
        """Returns how many sockets a user has on this node, including those that are connecting."""

    def on_departure(self, handler: Callable[[str], object]) -> None:
        """Call `handler(user_id)` when the last of the user's sockets on this node is gone, connecting ones
        included."""

    def rooms_of(self, user_id: str) -> Iterable[str]:
        """Returns the rooms of a user who is connected here."""

    def emit_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str, number: int
    ) -> None:
        """Emit an event about a user once to every socket in any of the rooms or watching the user, except the
        user's own.

        The event is volatile. `number` grows with each such event of the user; the highest number counts.
        """

    def disconnect(self, user_id: str, reason: ChatError) -> None:
        """Send the reason to all sockets of a user on this node, and close them."""

    def on(self, kind: type[S], handler: Callable[[S], None]) -> None:
        """Call the handler with each signal of this kind, from a room update or another node."""

    def on_remote_message(self, handler: Callable[[str, int, int], None]) -> None:
        """Call `handler(room, offset, seq)` for each message that another node has committed in a room of this
        node's."""

    def signal(self, signal: Signal, *, room: str | None) -> None:
        """Call the handlers on the other nodes that have members of the room; without a room, on all."""

    async def signalled(self, signal: Signal) -> None:
        """Call the handlers on all other nodes. Return when they have run, or after one second."""


class Announcer(ConversationRooms, Protocol[Update]):
    """Announces changes to rooms. Every node applies the updates of a room in the order of their offsets."""

    def new_update(self) -> Update:
        """Returns an update without effects."""

    def tell(self, room: str, offset: int, update: Update, *, seq: int = 0) -> None:
        """Announce a change that this node committed. It is applied after all changes with a lower offset.

        `seq`: the `seq` of the message, if the change is one.
        """


# --- sockets that watch users ---------------------------------------------------------------------


class Check(Protocol):
    """The search for rooms that a user shares with others, while it is under way."""

    user_id: str
    others: set[str]


class Watchers(Protocol):
    """The sockets of this node that receive the events of `emit_to_contacts` about users whom they watch.

    A node knows a room that a socket's user and a watched user share, and learns when one of them leaves it. When it
    knows none, and while it is not in sync, an event waits for a check.
    """

    on_unsure: Callable[[str], None]
    """Called with a user when a check of the user is needed."""

    def watched_by(self, socket: Any) -> Collection[str]:
        """Returns the users whom the socket watches."""

    def add(self, socket: Any, user_ids: Iterable[str]) -> list[str]:
        """Let the socket watch these users, as soon as a check is settled. Returns those whom it did not watch yet."""

    def remove(self, socket: Any, user_ids: Iterable[str]) -> None: ...
    def check(self, user_id: str, others: Iterable[str] = ()) -> Any:
        """Begin a check of the user with all others for whom it is needed, and with these. Then read from the
        database who shares a room with the user, and call `settle` or `end`."""

    def settle(self, check: Any, shared: Mapping[str, str]) -> None:
        """`shared`: for each of the others who shares a room with the user, one such room. The rest is watched no more."""

    def end(self, check: Any) -> None:
        """The check has failed."""


# --- the users and rooms of this node, for catch-up ---------------------------------------------


class Arrival(Protocol):
    @property
    def changes(self) -> Mapping[str, bool]:
        """By room: True if the user has joined it since, False if the user has left it."""


class LocalUsers(Protocol[Update]):
    """The users who are connected to this node, and the rooms that they are in."""

    def user_ids(self) -> list[str]: ...
    def lacks(self, user_id: str, room: str) -> bool:
        """True unless the user and all of the user's sockets here are in the room."""

    def watching(self, user_ids: Iterable[str]) -> AbstractContextManager[Mapping[str, Arrival]]:
        """Note, for each user, the changes of the user's rooms that are applied in the `with` block."""

    def missed(self) -> None:
        """Request another catch-up."""

    def reached(self, room: str, offset: int) -> bool | None:
        """True if the changes up to `offset` count as applied here. None if the room is not followed here."""

    def new_update(self) -> Update: ...
    def found(self, room: str, offset: int, update: Update) -> None:
        """Apply an update that was found in the database, on this node only."""


class LocalRooms(Protocol):
    """The rooms that this node follows, and the notices that they have received."""

    def user_ids(self) -> list[str]: ...
    def followed(self) -> list[str]: ...
    def caught_up(self, room: str) -> bool: ...
    def was_delivered(self, notice: str) -> bool: ...
    def knows(self, user_id: str, number: int) -> bool: ...
    def deliver_missed_notice(
        self, room: str, event: str, payload: Any, *, notice: str
    ) -> None: ...
    def deliver_missed_own_notice(
        self, user_id: str, event: str, payload: Any, *, notice: str
    ) -> None: ...
    def deliver_state(
        self,
        rooms: Iterable[str],
        event: str,
        payload: Any,
        *,
        user_id: str,
        number: int,
        trusted: Container[str] | None = None,
    ) -> None:
        """`trusted`: the rooms here that the user was in at the time of the event."""


# --- the outbox: events for other systems --------------------------------------------------------


class Outbox(Protocol):
    async def append(self, session: Session, records: Sequence[OutboxRecord]) -> None:
        """Record events in the transaction of the change that they describe."""


class Routes(Protocol):
    def slots(self, event_type: str, ordering_key: str) -> list[str]:
        """Returns the value of `due` for an entry that is the record of an event; empty if nobody wants it."""


# --- timers --------------------------------------------------------------------------------------

K_contra = TypeVar("K_contra", contravariant=True)


class Expiry(Protocol[K_contra]):
    """Keys that expire a fixed time after their last use."""

    def keep(self, key: K_contra) -> None:
        """Use the key."""

    def discard(self, key: K_contra) -> bool:
        """Forget the key. Returns True if it had not expired."""
