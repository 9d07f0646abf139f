"""The messages that nodes send each other about rooms, encoded as bytes.

Nodes of two versions exchange them during a rolling upgrade. So the first byte, the kind, is also the version: the
form of a kind never changes. A new form, or a new effect of an update, gets a new kind or a new name, and PROTOCOL goes
up. A node takes a message that it does not know for a lost one: it catches up from the database.

The header of a message is its kind, the node that sends it, and a request number. A message that requests no
acknowledgement has eight zeros instead. Numbers and offsets have eight hexadecimal digits. Updates are JSON, as
RoomUpdate encodes them; packets are the bytes that sockets receive.

| kind | channel | body | meaning |
|---|---|---|---|
| `m` | `r:<room>` | offset, seq, packet | an update whose only effect is a packet |
| `s` | `r:<room>` | offset, update | any other update; a request if it moves users |
| `u` | `u:<user>`, `all` | room, new line, offset, update | an update for nodes that may not follow the room |
| `e` | `r:<room>` | notice, new line, packet | a notice, which has an id and no offset |
| `o` | `u:<user>` | notice, new line, packet | a notice for the user's own sockets |
| `g` | `r:<room>`, `all` | kind and data, as JSON | a signal for handlers; may be a request on `all` |
| `p` | `all` | JSON: a list of rooms, event, payload, user and number | events about users, for their contacts |
| `y` | `n:<node>` | number | acknowledges the request with this number |

A node subscribes to `r:<room>` for the rooms that have members on it, `u:<user>` for the users who are
connected to it, its own `n:<node>`, and `all`.
"""

from __future__ import annotations

from typing import Any

import orjson

from ..engine.packet import Packet
from ..rooms.update import RoomUpdate

PROTOCOL = 2
"""Each node tells it to the others in its lease."""
KIND = slice(0, 1)
NODE = slice(1, 17)
REQUEST = slice(17, 25)
OFFSET = slice(25, 33)
"""In the kinds whose body starts with an offset."""
_SEQ = slice(33, 41)
_BODY = 25
_PACKET = 41
_UPDATE = 33

NO_REQUEST = b"00000000"

ALL = "all"
SUBJECT = slice(2, None)
"""The part of any other channel's name that is its room, user or node."""

ContactEvent = tuple[list[str], str, Any, str, int]
"""Rooms, an event, its payload, the user whom it concerns, and the event's number among those of this user.
The user's own sockets do not receive it."""


def of_room(room: str) -> str:
    return f"r:{room}"


def of_user(user_id: str) -> str:
    return f"u:{user_id}"


def of_node(node: str) -> str:
    return f"n:{node}"


def encode_packet(node: bytes, offset: int, seq: int, packet: Packet) -> bytes:
    return b"m%b00000000%08x%08x%b" % (node, offset, seq, packet.payload)


def decode_packet(message: bytes) -> tuple[int, int, Packet]:
    return int(message[OFFSET], 16), int(message[_SEQ], 16), Packet(message[_PACKET:])


def encode_update(node: bytes, offset: int, update: bytes, request: int = 0) -> bytes:
    return b"s%b%08x%08x%b" % (node, request, offset, update)


def decode_update(message: bytes) -> tuple[int, RoomUpdate]:
    return int(message[OFFSET], 16), RoomUpdate.decode(message[_UPDATE:])


def encode_update_of_users(node: bytes, room: str, offset: int, update: bytes) -> bytes:
    return b"u%b00000000%b\n%08x%b" % (node, room.encode(), offset, update)


def decode_update_of_users(message: bytes) -> tuple[str, int, RoomUpdate]:
    room, _, change = message[_BODY:].partition(b"\n")
    return room.decode(), int(change[:8], 16), RoomUpdate.decode(change[8:])


def encode_event(node: bytes, notice: str, packet: Packet) -> bytes:
    return b"e%b00000000%b\n%b" % (node, notice.encode(), packet.payload)


def encode_own_event(node: bytes, notice: str, packet: Packet) -> bytes:
    return b"o%b00000000%b\n%b" % (node, notice.encode(), packet.payload)


def decode_event(message: bytes) -> tuple[str, Packet]:
    notice, _, packet = message[_BODY:].partition(b"\n")
    return notice.decode(), Packet(packet)


def encode_signal(node: bytes, kind: str, data: list[Any], request: int = 0) -> bytes:
    return b"g%b%08x%b" % (node, request, orjson.dumps([kind, data]))


def decode_signal(message: bytes) -> tuple[str, list[Any]]:
    kind, data = orjson.loads(message[_BODY:])
    return kind, data


def encode_contact_events(node: bytes, events: list[ContactEvent]) -> bytes:
    return b"p%b00000000%b" % (node, orjson.dumps(events))


def decode_contact_events(message: bytes) -> list[ContactEvent]:
    return orjson.loads(message[_BODY:])


def encode_ack(node: bytes, request: bytes) -> bytes:
    return b"y%b00000000%b" % (node, request)


def decode_ack(message: bytes) -> int:
    return int(message[_BODY:], 16)
