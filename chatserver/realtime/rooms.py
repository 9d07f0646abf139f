"""Who hears what: rooms of sockets, on this node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from .direct import Connection
from .packet import Packet, event

_DISCONNECT = Packet(b"1")


class Reason(Protocol):
    """Why a socket is sent away."""

    @property
    def code(self) -> str: ...

    def wire(self) -> dict[str, Any]:
        """What its client is told, in the event `error`."""


class Arrival:
    """A user on the way in: what changes for the user while being looked up."""

    __slots__ = ("barred", "changes")

    def __init__(self) -> None:
        self.changes: dict[str, bool] = {}
        self.barred: Reason | None = None
        """Why the user may not come in after all."""


class Rooms:
    """Rooms, and the membership of every user who has a socket here.

    A user is a member of rooms; a socket may leave one for itself (and hear nothing) without the
    user ceasing to be a member. All methods act at once; what is emitted is in order.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, set[Connection]] = {}
        self._sockets: dict[str, set[Connection]] = {}
        self._memberships: dict[str, set[str]] = {}
        self._arrivals: dict[str, list[Arrival]] = {}

    # --- coming and going -----------------------------------------------------------------------

    def arriving(self, user_id: str) -> Arrival:
        """To be called before the user and the user's rooms are read from the database, so that no
        change of them falls between the reading and `enter`; ended by `enter` or `turned_back`."""
        arrival = Arrival()
        self._arrivals.setdefault(user_id, []).append(arrival)
        return arrival

    def turned_back(self, user_id: str, arrival: Arrival) -> None:
        arrivals = self._arrivals[user_id]
        arrivals.remove(arrival)
        if not arrivals:
            del self._arrivals[user_id]

    def enter(self, connection: Connection, rooms: Iterable[str], arrival: Arrival) -> None:
        user_id = connection.user_id
        self.turned_back(user_id, arrival)
        now = set(rooms)
        now.update(room for room, joined in arrival.changes.items() if joined)
        now.difference_update(room for room, joined in arrival.changes.items() if not joined)
        self._sockets.setdefault(user_id, set()).add(connection)
        self._memberships[user_id] = now
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
            del self._memberships[connection.user_id]

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
                self._memberships[user_id].add(room)
                for connection in self._sockets[user_id]:
                    self.join(connection, room)

    def expel(self, room: str, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            for arrival in self._arrivals.get(user_id, ()):
                arrival.changes[room] = False
            if user_id in self._memberships:
                self._memberships[user_id].discard(room)
                for connection in self._sockets[user_id]:
                    self.part(connection, room)

    def disconnect(self, user_id: str, reason: Reason) -> None:
        for arrival in self._arrivals.get(user_id, ()):
            arrival.barred = reason
        for connection in tuple(self._sockets.get(user_id, ())):
            self.dismiss(connection, reason)

    def dismiss(self, connection: Connection, reason: Reason) -> None:
        """Tell a socket why, and close it: its client does not come back by itself."""
        session = connection.session
        session.emit(event("error", reason.wire()))
        session.emit(_DISCONNECT)
        session.server.drop(session, reason.code, abort=False)

    # --- who is where ---------------------------------------------------------------------------

    def sockets_of(self, user_id: str) -> int:
        """How many sockets a user has, with those on the way in."""
        arrivals, sockets = self._arrivals.get(user_id, ()), self._sockets.get(user_id, ())
        return len(arrivals) + len(sockets)

    def hosts(self, user_id: str, room: str) -> bool:
        return room in self._memberships.get(user_id, ())

    def rooms_of(self, user_id: str) -> Iterable[str]:
        return tuple(self._memberships.get(user_id, ()))

    # --- what they hear -------------------------------------------------------------------------

    def emit(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        self._emit(self._rooms.get(room), event, payload, skip, fleeting=False)

    def emit_fleeting(self, room: str, event: str, payload: Any, *, skip: Any = None) -> None:
        self._emit(self._rooms.get(room), event, payload, skip, fleeting=True)

    def emit_to(self, user_id: str, event: str, payload: Any) -> None:
        self._emit(self._sockets.get(user_id), event, payload, None, fleeting=False)

    def neighbours(self, rooms: Iterable[str], event: str, payload: Any, *, but: str) -> None:
        sockets: set[Connection] = set().union(*(self._rooms.get(room, ()) for room in rooms))
        sockets -= self._sockets.get(but, set())
        self._emit(sockets, event, payload, None, fleeting=True)

    def _emit(
        self, sockets: set[Connection] | None, name: str, payload: Any, skip: Any, *, fleeting: bool
    ) -> None:
        if not sockets:
            return
        packet = event(name, payload, fleeting=fleeting)
        for connection in sockets:
            if connection is not skip:
                connection.session.emit(packet)
