"""The messages that nodes send each other about their clients, encoded as bytes. Packets are already in the
form that sockets receive."""

from __future__ import annotations

from typing import Any

import orjson

from ..engine.packet import Packet

NODE = 16
"""The length of a node's id. Every message starts with the sender's."""


def pack(node: bytes, kind: bytes, *arguments: Any, packets: list[Packet] | None = None) -> bytes:
    """Encode a message. `kind` is one letter. Raises TypeError if JSON cannot represent `arguments`."""
    parts = packets or []
    sizes = [[len(part.payload), part.binary] for part in parts]
    head = orjson.dumps([*arguments, sizes] if parts else arguments)
    return b"".join([node, kind, head, b"\n", *[part.payload for part in parts]])


def unpack(message: bytes) -> tuple[list[Any], bytes]:
    """Returns the arguments and the body. If there are packets, the last argument has their sizes (see `cut`)."""
    head, _, body = message[NODE + 1 :].partition(b"\n")
    return orjson.loads(head), body


def cut(sizes: list[tuple[int, bool]], body: bytes) -> list[Packet]:
    packets, at = [], 0
    for size, binary in sizes:
        packets.append(Packet(body[at : at + size], binary=binary))
        at += size
    return packets
