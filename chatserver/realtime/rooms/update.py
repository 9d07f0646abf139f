"""Room updates: the effects of one log entry on a room."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import orjson

from ..engine.packet import Packet, event


class RoomState(Protocol):
    """The rooms that an update is applied to (see Rooms)."""

    def deliver(self, room: str, packet: Packet) -> None: ...
    def deliver_to_user(self, user_id: str, packet: Packet) -> None: ...
    def admit(self, room: str, user_ids: Iterable[str]) -> None: ...
    def expel(self, room: str, user_ids: Iterable[str]) -> None: ...
    def empty(self, room: str) -> list[str]: ...
    def handle(self, kind: str, data: list[Any]) -> None: ...


class Signal(Protocol):
    """A message for the handler of its kind."""

    kind: ClassVar[str]

    def data(self) -> list[Any]:
        """Returns the fields, as JSON can express them."""

    @classmethod
    def of(cls, data: list[Any]) -> Self:
        """Returns the signal that `data` was made of."""


class PendingChanges(Protocol):
    """A user who is connecting (see arrival.py)."""

    changes: dict[str, bool]


EFFECTS = frozenset({"emit", "emit_to", "emit_to_each", "admit", "expel", "dissolve", "signal"})

FEW = 8
"""To at most this many users a packet is sent one by one, as versions without `emit_to_each` do."""


class NewerVersion(Exception):
    """A node of a newer version has sent what this version does not know. The message names it."""


class RoomUpdate:
    """The effects of one log entry on a room: users enter, users leave, packets are sent.

    They are applied in the order in which they were added. Each packet is encoded once, for this node and
    all others.
    """

    __slots__ = ("_effects",)

    def __init__(self) -> None:
        self._effects: list[tuple[str, Any, Packet | None]] = []

    def emit(self, name: str, payload: Any) -> None:
        """Send an event to every socket in the room."""
        self._effects.append(("emit", None, event(name, payload)))

    def emit_to(self, user_id: str, name: str, payload: Any) -> None:
        """Send an event to every socket of the user, in the room or not."""
        self._effects.append(("emit_to", user_id, event(name, payload)))

    def emit_to_each(self, user_ids: Iterable[str], name: str, payload: Any) -> None:
        """Send an event to every socket of several users, in the room or not."""
        user_ids, packet = list(user_ids), event(name, payload)
        if len(user_ids) > FEW:
            self._effects.append(("emit_to_each", user_ids, packet))
        else:
            self._effects += [("emit_to", user_id, packet) for user_id in user_ids]

    def admit(self, user_ids: Iterable[str]) -> None:
        self._effects.append(("admit", list(user_ids), None))

    def expel(self, user_ids: Iterable[str]) -> None:
        self._effects.append(("expel", list(user_ids), None))

    def dissolve(self, name: str, payload: Any) -> None:
        """Remove all members from the room, then send an event to every socket of each of them."""
        self._effects.append(("dissolve", None, event(name, payload)))

    def signal(self, signal: Signal) -> None:
        """Call the handler of the signal's kind on every node that applies the update."""
        self._effects.append(("signal", [signal.kind, signal.data()], None))

    @property
    def only(self) -> Packet | None:
        """The packet, if sending it to the room is the only effect; otherwise None."""
        if len(self._effects) == 1 and self._effects[0][0] == "emit":
            return self._effects[0][2]
        return None

    @property
    def moves(self) -> bool:
        """True if users enter or leave the room."""
        return any(name in ("admit", "expel", "dissolve") for name, _, _ in self._effects)

    def brought_in(self) -> set[str]:
        """Returns the users who enter the room."""
        return {user_id for name, whom, _ in self._effects if name == "admit" for user_id in whom}

    def concerning(self) -> set[str]:
        """Returns the users who enter, leave, or receive a packet of their own."""
        found: set[str] = set()
        for name, whom, _ in self._effects:
            if name == "emit_to":
                found.add(whom)
            elif whom and name != "signal":
                found.update(whom)
        return found

    def bringing_in(self, user_ids: set[str]) -> RoomUpdate:
        """Returns the part of the update that brings in these users: they enter, and receive what it sends them."""
        part = RoomUpdate()
        entered: list[str] = []
        for name, whom, packet in self._effects:
            if name == "admit":
                entered = [user_id for user_id in whom if user_id in user_ids]
                part.admit(entered)
            elif name == "emit":
                part._effects += [("emit_to", user_id, packet) for user_id in entered]
            elif name == "emit_to" and whom in user_ids:
                part._effects.append((name, whom, packet))
            elif name == "emit_to_each":
                part._effects.append((name, [who for who in whom if who in user_ids], packet))
        return part

    def apply(self, state: RoomState, room: str) -> None:
        for name, whom, packet in self._effects:
            if packet is not None:
                if name == "emit":
                    state.deliver(room, packet)
                    continue
                if name == "emit_to":
                    whom = (whom,)
                for user_id in state.empty(room) if name == "dissolve" else whom:
                    state.deliver_to_user(user_id, packet)
            elif name == "admit":
                state.admit(room, whom)
            elif name == "expel":
                state.expel(room, whom)
            else:
                state.handle(*whom)

    def mark(self, room: str, arrivals: Mapping[str, Sequence[PendingChanges]]) -> None:
        """Record in the arrivals of users who are connecting that they enter or leave the room."""
        for name, whom, _ in self._effects:
            if name in ("admit", "expel"):
                for user_id in whom:
                    for arrival in arrivals.get(user_id, ()):
                        arrival.changes[room] = name == "admit"

    def encode(self) -> bytes:
        effects = [
            (name, whom, packet and packet.payload.decode()) for name, whom, packet in self._effects
        ]
        # The first versions would apply the part of an update that they know. They cannot read an object, and so
        # take the update for a lost one.
        is_new = any(name == "emit_to_each" for name, _, _ in effects)
        return orjson.dumps({"effects": effects} if is_new else effects)

    @classmethod
    def decode(cls, text: bytes) -> RoomUpdate:
        """Decode what `encode` returned on another node. Raises NewerVersion."""
        update, effects = cls(), orjson.loads(text)
        update._effects = [
            (name, whom, packet and Packet(packet.encode()))
            for name, whom, packet in (effects["effects"] if isinstance(effects, dict) else effects)
        ]
        for name, _, _ in update._effects:
            if name not in EFFECTS:
                raise NewerVersion(f"the effect {name}")
        return update

    @classmethod
    def of_packet(cls, packet: Packet) -> RoomUpdate:
        update = cls.__new__(cls)
        update._effects = [("emit", None, packet)]
        return update
