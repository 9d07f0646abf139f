"""What the sockets of a room live through at one moment: who comes in, who goes out, what is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from ..engine.packet import Packet, event


class Stage(Protocol):
    """Where steps are performed: rooms of sockets (see Rooms)."""

    def hear(self, room: str, packet: Packet) -> None: ...
    def hear_alone(self, user_id: str, packet: Packet) -> None: ...
    def admit(self, room: str, user_ids: Iterable[str]) -> None: ...
    def expel(self, room: str, user_ids: Iterable[str]) -> None: ...
    def empty(self, room: str) -> list[str]: ...
    def handle(self, name: str, data: Any) -> None: ...


class Arrival(Protocol):
    """A user on the way in (see rooms.Arrival)."""

    changes: dict[str, bool]


class Steps:
    """Steps in the order in which they were added; each packet is encoded once, also for other nodes."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[str, Any, Packet | None]] = []

    def emit(self, name: str, payload: Any) -> None:
        """To every socket in the room."""
        self._steps.append(("emit", None, event(name, payload)))

    def emit_to(self, user_id: str, name: str, payload: Any) -> None:
        """To every socket of a user, in the room or not."""
        self._steps.append(("emit_to", user_id, event(name, payload)))

    def admit(self, user_ids: Iterable[str]) -> None:
        self._steps.append(("admit", list(user_ids), None))

    def expel(self, user_ids: Iterable[str]) -> None:
        self._steps.append(("expel", list(user_ids), None))

    def dissolve(self, name: str, payload: Any) -> None:
        """Take everybody out of the room, and tell every socket of all who were in it."""
        self._steps.append(("dissolve", None, event(name, payload)))

    def signal(self, name: str, data: Any) -> None:
        """To whoever handles signals of this name, on every node that performs these steps."""
        self._steps.append(("signal", [name, data], None))

    @property
    def only(self) -> Packet | None:
        """The packet, when all there is to do is to send one to the room."""
        if len(self._steps) == 1 and self._steps[0][0] == "emit":
            return self._steps[0][2]
        return None

    @property
    def moves(self) -> bool:
        """Whether anybody comes or goes."""
        return any(name in ("admit", "expel", "dissolve") for name, _, _ in self._steps)

    def brought_in(self) -> set[str]:
        """The users who come into the room."""
        return {one for name, whom, _ in self._steps if name == "admit" for one in whom}

    def concerning(self) -> set[str]:
        """The users who are moved or spoken to by name."""
        found: set[str] = set()
        for name, whom, _ in self._steps:
            if name == "emit_to":
                found.add(whom)
            elif whom and name != "signal":
                found.update(whom)
        return found

    def perform(self, stage: Stage, room: str) -> None:
        for name, whom, packet in self._steps:
            if packet is not None:
                if name == "emit":
                    stage.hear(room, packet)
                    continue
                for user_id in stage.empty(room) if name == "dissolve" else (whom,):
                    stage.hear_alone(user_id, packet)
            elif name == "admit":
                stage.admit(room, whom)
            elif name == "expel":
                stage.expel(room, whom)
            else:
                stage.handle(*whom)

    def mark(self, room: str, arrivals: Mapping[str, Sequence[Arrival]]) -> None:
        """Note for those who are on their way in whether they come into this room."""
        for name, whom, _ in self._steps:
            if name in ("admit", "expel"):
                for user_id in whom:
                    for arrival in arrivals.get(user_id, ()):
                        arrival.changes[room] = name == "admit"

    def encode(self) -> bytes:
        return orjson.dumps(
            [(name, whom, packet and packet.payload.decode()) for name, whom, packet in self._steps]
        )

    @classmethod
    def decode(cls, text: bytes) -> Steps:
        """What `encode` gave on another node."""
        steps = cls()
        steps._steps = [
            (name, whom, packet and Packet(packet.encode()))
            for name, whom, packet in orjson.loads(text)
        ]
        return steps

    @classmethod
    def of_packet(cls, packet: Packet) -> Steps:
        steps = cls.__new__(cls)
        steps._steps = [("emit", None, packet)]
        return steps
