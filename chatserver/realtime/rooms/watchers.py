"""The sockets that watch users: they receive the events about these users, in whatever rooms the events are sent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any

from ..engine.packet import Packet, event
from ..memory import Memory
from ..server.fast_path import Connection

Trusted = Container[str] | None
"""The rooms of which this node certainly knows that a user is in them. None: all rooms that the node follows."""


class Check:
    """The search for rooms that a user shares with others, while it is under way."""

    __slots__ = ("others", "stale", "user_id")

    def __init__(self, user_id: str, others: set[str]) -> None:
        self.user_id = user_id
        self.others = others
        self.stale: set[str] = set()
        """Users who have entered or left a room since, and users about whom an event arrived since. What the search
        finds about them may be older than that."""


class Watchers:
    """Which sockets watch which users. A socket may watch users who share a room with its own user.

    Each pair of a socket and a watched user is vouched for by one room that the two users share and that this node
    follows, so the node learns when one of them leaves. Then, and while no room is known, the pair is *unsure*: an
    event waits until a check has found a room that the users share. If there is none, the pair ends. Of each user,
    only the last event waits.
    """

    def __init__(
        self,
        hosts: Callable[[str, str], bool],
        sockets: Mapping[str, Collection[Connection]],
    ) -> None:
        """`hosts(user_id, room)`: see Rooms. `sockets`: those of each user here."""
        self._hosts = hosts
        self._sockets = sockets
        self._of_user: dict[str, dict[Connection, str | None]] = {}
        """By watched user and socket, the room that vouches for the pair, or None."""
        self._of_socket: dict[Connection, set[str]] = {}
        self._waiting: dict[str, tuple[Packet, set[Connection]]] = {}
        self._checks: list[Check] = []
        self.on_unsure: Callable[[str], None] = lambda user_id: None
        """Called with a user when a check of the user is needed."""

    def watch(self, memory: Memory) -> None:
        memory(
            "watched users",
            lambda: (
                sum(map(len, self._of_socket.values()))
                + len(self._of_user)
                + len(self._waiting)
                + len(self._checks)
            ),
            None,
        )

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._of_user

    # --- the pairs ------------------------------------------------------------------------------

    def watched_by(self, socket: Connection) -> Collection[str]:
        return self._of_socket.get(socket, ())

    def add(self, socket: Connection, user_ids: Iterable[str]) -> list[str]:
        """Let the socket watch these users, as soon as a check is settled. Returns those whom it did not watch yet."""
        watched = self._of_socket.setdefault(socket, set())
        new = [user_id for user_id in user_ids if user_id not in watched]
        for user_id in new:
            watched.add(user_id)
            self._of_user.setdefault(user_id, {})[socket] = None
        if not watched:
            del self._of_socket[socket]
        return new

    def remove(self, socket: Connection, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            if user_id in self.watched_by(socket):
                self._end(socket, user_id)

    def leave(self, socket: Connection) -> None:
        """The socket has disconnected."""
        self.remove(socket, tuple(self.watched_by(socket)))

    def _end(self, socket: Connection, user_id: str) -> None:
        watched, pairs = self._of_socket[socket], self._of_user[user_id]
        watched.discard(user_id)
        if not watched:
            del self._of_socket[socket]
        del pairs[socket]
        if not pairs:
            del self._of_user[user_id]
        if user_id in self._waiting:
            self._taken(user_id, socket)

    def joined(self, user_id: str) -> None:
        """The user has entered a room, which a check under way may not have found."""
        for check in self._checks:
            check.stale.add(user_id)

    def left(self, user_id: str, room: str) -> None:
        """The user has left the room, which no longer vouches for the user's pairs."""
        for check in self._checks:
            check.stale.add(user_id)
        lost = False
        # Without a list of the pairs: a room with thousands of watchers may be dissolved.
        watching = self._of_user.get(user_id, {})
        for socket, vouching in watching.items():
            if vouching == room:
                watching[socket] = None
                lost = True
        for socket in self._sockets.get(user_id, ()):
            for watched in self.watched_by(socket):
                pairs = self._of_user[watched]
                if pairs[socket] == room:
                    pairs[socket] = None
                    lost = True
        if lost:
            self.on_unsure(user_id)

    # --- events ---------------------------------------------------------------------------------

    def deliver(
        self,
        name: str,
        payload: Any,
        receivers: set[Connection],
        *,
        user_id: str,
        trusted: Trusted,
    ) -> None:
        """Emit an event about a user once to each receiver and to each other socket that watches the user.

        The event is volatile. Only `trusted` rooms vouch for a pair.
        """
        waiting: set[Connection] | None = None
        if (pairs := self._of_user.get(user_id)) is not None:
            waiting = set()
            for socket, room in pairs.items():
                if room is not None and (trusted is None or room in trusted):
                    receivers.add(socket)
                else:
                    pairs[socket] = None
                    waiting.add(socket)
            waiting -= receivers
        elif not receivers:
            return
        packet = event(name, payload, volatile=True)
        for socket in receivers:
            socket.session.emit(packet)
        if waiting is not None:
            self._have_wait(user_id, packet, waiting)

    def _have_wait(self, user_id: str, packet: Packet, sockets: set[Connection]) -> None:
        self._waiting.pop(user_id, None)
        if sockets:
            self._waiting[user_id] = packet, sockets
            for check in self._checks:
                check.stale.add(user_id)
            self.on_unsure(user_id)

    def _taken(self, user_id: str, socket: Connection) -> Packet | None:
        """Returns the packet about the user that waits for the socket, if there is one. It waits no longer."""
        packet, sockets = self._waiting.get(user_id, (None, set()))
        if socket not in sockets:
            return None
        sockets.discard(socket)
        if not sockets:
            del self._waiting[user_id]
        return packet

    # --- checks ---------------------------------------------------------------------------------

    def check(self, user_id: str, others: Iterable[str] = ()) -> Check:
        """Begin a check of the user with the others of all unsure pairs, and with these. It needs `settle` or `end`."""
        unsure = {
            socket.user_id
            for socket, room in self._of_user.get(user_id, {}).items()
            if room is None
        }
        for socket in self._sockets.get(user_id, ()):
            unsure.update(
                watched
                for watched in self.watched_by(socket)
                if self._of_user[watched][socket] is None
            )
        check = Check(user_id, unsure.union(others))
        self._checks.append(check)
        return check

    def settle(self, check: Check, shared: Mapping[str, str]) -> None:
        """End the check. `shared`: for each of the others who shares a room with the user, one such room."""
        self.end(check)
        again = False
        for other in check.others:
            for socket, watched in self._pairs(check.user_id, other):
                if not check.stale.isdisjoint((check.user_id, other)):
                    again = True
                elif (room := shared.get(other)) is None:
                    self._end(socket, watched)
                else:
                    if self._hosts(socket.user_id, room):
                        self._of_user[watched][socket] = room
                    if (packet := self._taken(watched, socket)) is not None:
                        socket.session.emit(packet)
        if again:
            self.on_unsure(check.user_id)

    def end(self, check: Check) -> None:
        self._checks.remove(check)

    def _pairs(self, user_id: str, other: str) -> list[tuple[Connection, str]]:
        """Returns the pairs of the two users, in both directions."""
        return [
            (socket, watched)
            for watcher, watched in ((user_id, other), (other, user_id))
            for socket in self._sockets.get(watcher, ())
            if watched in self.watched_by(socket)
        ]
