"""Rooms of sockets on this node, and the users who are members of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..engine.packet import Packet, event
from ..server.fast_path import Connection
from .sequencer import LogSource, Sequencer
from .update import RoomUpdate

_DISCONNECT = Packet(b"1")


class Reason(Protocol):
    """Why a socket is closed."""

    @property
    def code(self) -> str: ...

    def wire(self) -> dict[str, Any]:
        """The payload of the event `error` for the client."""


class Arrival:
    """A user who is connecting: what changes for the user while the server reads the user's rooms."""

    __slots__ = ("changes", "complete", "revoked")

    def __init__(self) -> None:
        self.changes: dict[str, bool] = {}
        self.revoked: Reason | None = None
        """Why the user may not come in after all; None while nothing forbids it."""
        self.complete = True
        """Whether `changes` has every change since the user began to arrive."""


class Rooms:
    """Rooms, and the membership of every user who has a socket here.

    A user is a member of rooms; a socket may leave a room (and receives nothing of it then) while
    the user stays a member. All methods act at once; what is emitted is in order.
    """

    def __init__(
        self, source: LogSource, reached: Callable[[str, int], None] = lambda room, offset: None
    ) -> None:
        """`reached(room, offset)` is called when all up to `offset` has been applied."""
        self.sequencer = Sequencer(self, source, reached)
        self._rooms: dict[str, set[Connection]] = {}
        self._sockets: dict[str, set[Connection]] = {}
        self._memberships: dict[str, set[str]] = {}
        self._arrivals: dict[str, list[Arrival]] = {}
        self._members: dict[str, int] = {}
        """How many members of a room are connected here."""
        self._handlers: dict[str, Callable[[Any], None]] = {}

    @property
    def in_sync(self) -> bool:
        """Whether this node knows everything that happened on the other nodes."""
        return True

    # --- coming and going -----------------------------------------------------------------------

    def arriving(self, user_id: str) -> Arrival:
        """Note all changes for the user from now until `enter` or `abort_arrival`. To be called before
        the user and the user's rooms are read from the database, so that no change is lost between."""
        arrival = Arrival()
        self._arrivals.setdefault(user_id, []).append(arrival)
        return arrival

    async def reachable(self, user_id: str) -> None:
        """Return when changes for the user reach this node. To be awaited before the user's rooms are
        read from the database."""

    async def prepare(self, rooms: Iterable[str]) -> None:
        """Return when all changes of these rooms reach this node; to be awaited before `enter`."""

    def abort_arrival(self, user_id: str, arrival: Arrival) -> None:
        """The user did not come in."""
        arrivals = self._arrivals[user_id]
        arrivals.remove(arrival)
        if not arrivals:
            del self._arrivals[user_id]

    def enter(self, connection: Connection, rooms: Iterable[str], arrival: Arrival) -> None:
        user_id = connection.user_id
        self.abort_arrival(user_id, arrival)
        now = set(rooms)
        now.update(room for room, joined in arrival.changes.items() if joined)
        now.difference_update(room for room, joined in arrival.changes.items() if not joined)
        self._sockets.setdefault(user_id, set()).add(connection)
        before = self._memberships.get(user_id, set())
        self._memberships[user_id] = now
        for room in now - before:
            self._come(room)
        for room in before - now:
            # The user was removed, and the change has not reached this node: take the other sockets out, too.
            for socket in self._sockets[user_id]:
                self.part(socket, room)
            self._go(room)
        for room in now:
            self.join(connection, room)

    def leave(self, connection: Connection) -> None:
        for room in tuple(connection.rooms):
            self.part(connection, room)
        sockets = self._sockets.get(connection.user_id)
        if sockets is None:
            return
        sockets.discard(connection)
        if not sockets:
            del self._sockets[connection.user_id]
            for room in self._memberships.pop(connection.user_id):
                self._go(room)

    def join(self, connection: Connection, room: str) -> None:
        self._rooms.setdefault(room, set()).add(connection)
        connection.rooms.add(room)

    def part(self, connection: Connection, room: str) -> None:
        connection.rooms.discard(room)
        sockets = self._rooms.get(room)
        if sockets is not None:
            sockets.discard(connection)
            if not sockets:
                del self._rooms[room]

    def admit(self, room: str, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            for arrival in self._arrivals.get(user_id, ()):
                arrival.changes[room] = True
            if user_id in self._memberships:
                if room not in self._memberships[user_id]:
                    self._memberships[user_id].add(room)
                    self._come(room)
                for connection in self._sockets[user_id]:
                    self.join(connection, room)

    def expel(self, room: str, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            for arrival in self._arrivals.get(user_id, ()):
                arrival.changes[room] = False
            if room in self._memberships.get(user_id, ()):
                self._memberships[user_id].discard(room)
                for connection in self._sockets[user_id]:
                    self.part(connection, room)
                self._go(room)

    def empty(self, room: str) -> list[str]:
        """Take all members out of the room. Returns those who are connected here."""
        members = [user_id for user_id, rooms in self._memberships.items() if room in rooms]
        self.expel(room, {*members, *self._arrivals})
        return members

    def _come(self, room: str) -> None:
        count = self._members[room] = self._members.get(room, 0) + 1
        if count == 1:
            self._host(room)

    def _go(self, room: str) -> None:
        count = self._members[room] = self._members[room] - 1
        if not count:
            del self._members[room]
            self._leave_off(room)

    def _host(self, room: str) -> None:
        """The first member of the room is here."""

    def _leave_off(self, room: str) -> None:
        """The last member of the room has gone."""
        self.sequencer.forget(room)

    def disconnect(self, user_id: str, reason: Reason) -> None:
        for arrival in self._arrivals.get(user_id, ()):
            arrival.revoked = reason
        for connection in tuple(self._sockets.get(user_id, ())):
            self.dismiss(connection, reason)

    def dismiss(self, connection: Connection, reason: Reason) -> None:
        """Send the reason to a socket, and close it: its client does not reconnect by itself."""
        session = connection.session
        session.emit(event("error", reason.wire()))
        session.emit(_DISCONNECT)
        session.server.drop(session, reason.code, abort=False)

    # --- users and their rooms ------------------------------------------------------------------

    @property
    def users(self) -> int:
        """How many users have a socket here."""
        return len(self._sockets)

    @property
    def hosted(self) -> int:
        """How many rooms have members connected here."""
        return len(self._members)

    def user_ids(self) -> list[str]:
        """The users who are connected here, or connecting."""
        return list({**self._sockets, **self._arrivals})

    def sockets_of(self, user_id: str) -> int:
        """How many sockets a user has here, with those that are connecting."""
        arrivals, sockets = self._arrivals.get(user_id, ()), self._sockets.get(user_id, ())
        return len(arrivals) + len(sockets)

    def hosts(self, user_id: str, room: str) -> bool:
        return room in self._memberships.get(user_id, ())

    def rooms_of(self, user_id: str) -> Iterable[str]:
        return tuple(self._memberships.get(user_id, ()))

    # --- changes and deliveries -----------------------------------------------------------------

    def tell(self, room: str, offset: int, update: RoomUpdate, *, seq: int = 0) -> None:
        """Announce a change of the room. It is applied after all changes with a lower offset.

        `seq`: the number of messages in the room by then, if the change is a message.
        """
        self._offer(room, offset, update)

    def _offer(self, room: str, offset: int, update: RoomUpdate) -> None:
        if room in self._members or update.only is None:
            self.sequencer.offer(room, offset, update)
            if room not in self._members:
                self.sequencer.forget(room)

    def behind(self, room: str, after: int, known: int) -> None:
        """The log has changes up to `known`; those up to `after` were offered here."""
        if room in self._members:
            self.sequencer.behind(room, after, known)

    async def confirmed(self, room: str, offset: int) -> None:
        """Return when all nodes that follow the room have applied `offset`; after a second at the
        latest."""

    def on(self, name: str, handler: Callable[[Any], None]) -> None:
        """Call the handler with the data of each signal of this name, in an update or from another node."""
        self._handlers[name] = handler

    def handle(self, name: str, data: Any) -> None:
        if (handler := self._handlers.get(name)) is not None:
            handler(data)

    def signal(self, name: str, data: Any, *, room: str | None) -> None:
        """Call the handlers on the other nodes that have members of the room; without a room, on all."""

    async def signalled(self, name: str, data: Any) -> None:
        """Call the handlers on all other nodes; return when they have run, after a second at the latest."""

    def deliver(self, room: str, packet: Packet) -> None:
        for connection in self._rooms.get(room, ()):
            connection.session.emit(packet)

    def deliver_to_user(self, user_id: str, packet: Packet) -> None:
        for connection in self._sockets.get(user_id, ()):
            connection.session.emit(packet)

    def emit(self, room: str, event_name: str, payload: Any, *, notice: str) -> None:
        self.deliver(room, event(event_name, payload))

    def emit_volatile(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        self._emit(self._rooms.get(room), event, payload, skip, volatile=True)

    def emit_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str, number: int
    ) -> None:
        """To every socket in any of the rooms once, but not to the user's own."""
        self.deliver_to_contacts(rooms, event, payload, user_id=user_id)

    def deliver_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str
    ) -> None:
        sockets: set[Connection] = set().union(*(self._rooms.get(room, ()) for room in rooms))
        sockets -= self._sockets.get(user_id, set())
        self._emit(sockets, event, payload, None, volatile=True)

    def _emit(
        self, sockets: set[Connection] | None, name: str, payload: Any, skip: Any, *, volatile: bool
    ) -> None:
        if not sockets:
            return
        packet = event(name, payload, volatile=volatile)
        for connection in sockets:
            if connection is not skip:
                connection.session.emit(packet)
