"""The rooms of one node: their sockets, and the users who are members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from ..engine.packet import Packet, event
from ..memory import Memory
from ..server.fast_path import Connection
from .arrival import Arrival, Reason
from .sequencer import LogSource, Sequencer
from .update import RoomUpdate, Signal
from .watchers import Trusted, Watchers

_DISCONNECT = Packet(b"1")

S = TypeVar("S", bound=Signal)


class Rooms:
    """The rooms of this node, and the memberships of every user who has a socket here.

    Users are members of rooms. A single socket may leave a room while its user stays a member; the socket
    then receives nothing from the room. Methods that are not coroutines take effect immediately, and sockets
    receive packets in the order of the calls.
    """

    def __init__(
        self, source: LogSource, reached: Callable[[str, int], None] = lambda room, offset: None
    ) -> None:
        """`reached(room, offset)` is called when all updates up to `offset` have been applied."""
        self.sequencer = Sequencer(self, source, reached)
        self._rooms: dict[str, set[Connection]] = {}
        self._sockets: dict[str, set[Connection]] = {}
        self._memberships: dict[str, set[str]] = {}
        self._arrivals: dict[str, list[Arrival]] = {}
        self._members: dict[str, int] = {}
        """By room: the number of members who are connected here."""
        self._handlers: dict[str, Callable[[list[Any]], None]] = {}
        self._departures: list[Callable[[str], object]] = []
        self._unfollowed: list[Callable[[str], object]] = []
        self.watchers = Watchers(self.hosts, self._sockets)

    new_update = RoomUpdate

    def watch(self, memory: Memory) -> None:
        memory("rooms", lambda: len(self._rooms) + len(self._members), None)
        memory(
            "users",
            lambda: len(self._sockets) + len(self._memberships) + len(self._arrivals),
            None,
        )
        self.sequencer.watch(memory)
        self.watchers.watch(memory)

    # --- the other nodes, of which there are none here ------------------------------------------

    @property
    def in_sync(self) -> bool:
        """True if this node knows everything that happened on the other nodes."""
        return True

    @property
    def cut_off(self) -> bool:
        """True while this node cannot send messages to the other nodes."""
        return False

    def missed(self) -> None:
        """Request a catch-up: this node may have missed something."""

    def on_remote_message(self, handler: Callable[[str, int, int], None]) -> None:
        """Call `handler(room, offset, seq)` for each message that another node has committed to a room that this
        node follows."""

    # --- users connect and disconnect -----------------------------------------------------------

    def arriving(self, user_id: str) -> Arrival:
        """Collect changes of the user's memberships until `enter` or `abort_arrival`. Call this before
        reading the user and the user's rooms from the database, so that no change is lost in between."""
        arrival = Arrival()
        self._arrivals.setdefault(user_id, []).append(arrival)
        return arrival

    async def reachable(self, user_id: str) -> None:
        """Return when this node receives updates that concern the user. Await this before reading the
        user's rooms from the database."""

    async def prepare(self, rooms: Iterable[str]) -> None:
        """Return when this node receives all updates of these rooms. Await this before `enter`."""

    def abort_arrival(self, user_id: str, arrival: Arrival) -> None:
        """Stop collecting changes: the user was refused or has disconnected."""
        arrivals = self._arrivals[user_id]
        arrivals.remove(arrival)
        if not arrivals:
            del self._arrivals[user_id]
            self._may_have_departed(user_id)

    def on_departure(self, handler: Callable[[str], object]) -> None:
        """Call `handler(user_id)` when the last of the user's sockets here is gone, connecting ones included."""
        self._departures.append(handler)

    def _may_have_departed(self, user_id: str) -> None:
        if user_id not in self._sockets and user_id not in self._arrivals:
            for handler in self._departures:
                handler(user_id)

    def enter(
        self,
        connection: Connection,
        rooms: Iterable[str],
        arrival: Arrival,
        *,
        partly: bool = False,
    ) -> None:
        """`partly`: the user is a member of more rooms."""
        user_id = connection.user_id
        self._sockets.setdefault(user_id, set()).add(connection)
        self.abort_arrival(user_id, arrival)
        now = set(rooms)
        now.update(room for room, joined in arrival.changes.items() if joined)
        now.difference_update(room for room, joined in arrival.changes.items() if not joined)
        before = self._memberships.get(user_id, set())
        kept = {room for room in before if arrival.changes.get(room, True)} if partly else set()
        self._memberships[user_id] = now | kept
        for room in now - before:
            self._come(room)
        if now - before and len(self._sockets[user_id]) > 1:
            # The update that brings the user in has not reached the user's other sockets.
            self.missed()
        for room in before - now - kept:
            # The user was removed, and the update has not reached this node: the user's other sockets leave, too.
            for socket in self._sockets[user_id]:
                self.part(socket, room)
            self._go(room)
            self.watchers.left(user_id, room)
        for room in now:
            self.join(connection, room)

    def enter_one(self, connection: Connection, room: str, arrival: Arrival) -> bool:
        """A connected user enters another of the user's rooms. Returns False if the user has left it since, or has
        disconnected."""
        user_id = connection.user_id
        self.abort_arrival(user_id, arrival)
        if connection not in self._sockets.get(user_id, ()) or not arrival.changes.get(room, True):
            return False
        if room not in self._memberships[user_id]:
            self._memberships[user_id].add(room)
            for other in self._arrivals.get(user_id, ()):
                other.changes.setdefault(room, True)
            self._come(room)
        self.join(connection, room)
        return True

    def leave(self, connection: Connection) -> None:
        self.watchers.leave(connection)
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
            self._may_have_departed(connection.user_id)

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
            self.watchers.joined(user_id)

    def expel(self, room: str, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            for arrival in self._arrivals.get(user_id, ()):
                arrival.changes[room] = False
            if room in self._memberships.get(user_id, ()):
                self._memberships[user_id].discard(room)
                for connection in self._sockets[user_id]:
                    self.part(connection, room)
                self._go(room)
            self.watchers.left(user_id, room)

    def empty(self, room: str) -> list[str]:
        """Remove all members from the room. Returns the members who are connected here."""
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
        """Called when the room gets its first member here."""

    def _leave_off(self, room: str) -> None:
        """Called when the room has no member left here."""
        self._unfollow(room)

    def follows(self, room: str) -> bool:
        """True if every further update of the room is applied here."""
        return room in self._members

    def on_unfollowed(self, handler: Callable[[str], object]) -> None:
        """Call `handler(room)` when this node no longer applies the updates of a room."""
        self._unfollowed.append(handler)

    def _unfollow(self, room: str) -> None:
        self.sequencer.forget(room)
        for handler in self._unfollowed:
            handler(room)

    def disconnect(self, user_id: str, reason: Reason) -> None:
        for arrival in self._arrivals.get(user_id, ()):
            arrival.revoked = reason
        for connection in tuple(self._sockets.get(user_id, ())):
            self.dismiss(connection, reason)

    def dismiss(self, connection: Connection, reason: Reason) -> None:
        """Send the reason to a socket and close it. The client does not reconnect by itself."""
        session = connection.session
        session.emit(event("error", reason.wire()))
        session.emit(_DISCONNECT)
        session.server.drop(session, reason.code, abort=False)

    # --- users and their rooms ------------------------------------------------------------------

    @property
    def users(self) -> int:
        """The number of users who have a socket here."""
        return len(self._sockets)

    @property
    def hosted(self) -> int:
        """The number of rooms that have members connected here."""
        return len(self._members)

    @contextmanager
    def watching(self, user_ids: Iterable[str]) -> Iterator[Mapping[str, Arrival]]:
        """Collect, for each user, the changes of the user's memberships that are applied in the `with` block."""
        arrivals = {user_id: self.arriving(user_id) for user_id in user_ids}
        try:
            yield arrivals
        finally:
            for user_id, arrival in arrivals.items():
                self.abort_arrival(user_id, arrival)

    def user_ids(self) -> list[str]:
        """Returns the users who are connected or connecting here."""
        return list({**self._sockets, **self._arrivals})

    def sockets_of(self, user_id: str) -> int:
        """Returns the number of the user's sockets here, including sockets that are still connecting."""
        arrivals, sockets = self._arrivals.get(user_id, ()), self._sockets.get(user_id, ())
        return len(arrivals) + len(sockets)

    def hosts(self, user_id: str, room: str) -> bool:
        return room in self._memberships.get(user_id, ())

    def lacks(self, user_id: str, room: str) -> bool:
        """True unless the user and all of the user's sockets are in the room."""
        sockets = self._sockets.get(user_id, ())
        return not self.hosts(user_id, room) or any(room not in each.rooms for each in sockets)

    def rooms_of(self, user_id: str) -> Iterable[str]:
        return tuple(self._memberships.get(user_id, ()))

    # --- updates and deliveries -----------------------------------------------------------------

    def tell(self, room: str, offset: int, update: RoomUpdate, *, seq: int = 0) -> None:
        """Announce an update of the room. It is applied after all updates with a lower offset.

        `seq`: the message's number in the room if the update is a new message, otherwise 0.
        """
        self._offer(room, offset, update)

    def _offer(self, room: str, offset: int, update: RoomUpdate) -> None:
        if room in self._members or update.only is None:
            self.sequencer.offer(room, offset, update)
            if room not in self._members:
                self.sequencer.forget(room)

    def behind(self, room: str, after: int, known: int) -> None:
        """Have the sequencer read the log, which has updates up to `known`. Those up to `after` were offered
        here."""
        if room in self._members:
            self.sequencer.behind(room, after, known)

    async def confirmed(self, room: str, offset: int) -> None:
        """Return when all nodes that follow the room have applied `offset`, or after a second."""

    def on(self, kind: type[S], handler: Callable[[S], None]) -> None:
        """Register the handler for signals of this kind, which arrive in updates and from other nodes."""
        self._handlers[kind.kind] = lambda data: handler(kind.of(data))

    def handle(self, kind: str, data: list[Any]) -> None:
        if (handler := self._handlers.get(kind)) is not None:
            handler(data)

    def signal(self, signal: Signal, *, room: str | None) -> None:
        """Call the handlers on the other nodes that follow the room, or on all other nodes if it is None."""

    async def signalled(self, signal: Signal) -> None:
        """Call the handlers on all other nodes. Return when they have run, or after a second."""

    def deliver(self, room: str, packet: Packet) -> None:
        for connection in self._rooms.get(room, ()):
            connection.session.emit(packet)

    def deliver_to_user(self, user_id: str, packet: Packet) -> None:
        for connection in self._sockets.get(user_id, ()):
            connection.session.emit(packet)

    def emit(self, room: str, event_name: str, payload: Any, *, notice: str) -> None:
        self.deliver(room, event(event_name, payload))

    def emit_to_user(self, user_id: str, event_name: str, payload: Any, *, notice: str) -> None:
        self.deliver_to_user(user_id, event(event_name, payload))

    def emit_here(self, room: str, event_name: str, payload: Any) -> None:
        self.deliver(room, event(event_name, payload))

    def emit_volatile(self, room: str, event_name: str, payload: Any, *, skip: Any = None) -> None:
        if sockets := self._rooms.get(room):
            packet = event(event_name, payload, volatile=True)
            for connection in sockets:
                if connection is not skip:
                    connection.session.emit(packet)

    def emit_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str, number: int
    ) -> None:
        """Emit once to every socket in any of the rooms or watching the user, except the user's own sockets."""
        self.deliver_to_contacts(rooms, event, payload, user_id=user_id)

    def deliver_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, user_id: str, trusted: Trusted = None
    ) -> None:
        sockets: set[Connection] = set().union(*(self._rooms.get(room, ()) for room in rooms))
        sockets -= self._sockets.get(user_id, set())
        self.watchers.deliver(event, payload, sockets, user_id=user_id, trusted=trusted)
