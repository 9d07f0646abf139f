"""The messages of nodes about their clients, as bytes. Packets travel as they leave for sockets."""

from __future__ import annotations

from typing import Any

import orjson

from ..engine.packet import Packet

NODE = 16
"""Characters of a node's id, which every message begins with."""


def pack(node: bytes, kind: bytes, *arguments: Any, packets: list[Packet] | None = None) -> bytes:
    """`kind` is one letter; `arguments` are JSON. Raises TypeError when they cannot be."""
    parts = packets or []
    sizes = [[len(part.payload), part.binary] for part in parts]
    head = orjson.dumps([*arguments, sizes] if parts else arguments)
    return b"".join([node, kind, head, b"\n", *[part.payload for part in parts]])


def unpack(message: bytes) -> tuple[list[Any], bytes]:
    """The arguments, of which the last one says how what follows is cut into packets (see `cut`)."""
    head, _, body = message[NODE + 1 :].partition(b"\n")
    return orjson.loads(head), body


def cut(sizes: list[tuple[int, bool]], body: bytes) -> list[Packet]:
    packets, at = [], 0
    for size, binary in sizes:
        packets.append(Packet(body[at : at + size], binary=binary))
        at += size
    return packets
