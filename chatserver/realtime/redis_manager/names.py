"""The names of clients and channels."""

from __future__ import annotations

import re
import secrets
from typing import Any

import orjson

_SID = re.compile(r"([0-9a-f]{16})\.[\w-]{20}")


def new_sid(node: str) -> str:
    return f"{node}.{secrets.token_urlsafe(15)}"


def node_of(room: Any) -> str | None:
    """Returns the node of the client that has this id; None if the room is not a client's id."""
    found = _SID.fullmatch(room) if isinstance(room, str) else None
    return found[1] if found else None


def of_room(namespace: str, room: Any) -> str:
    """Returns the channel of a room. The room None has all clients of the namespace."""
    if room is not None and (isinstance(room, bool) or not isinstance(room, str | int)):
        raise TypeError(f"A room name must be a string or an integer, not {room!r}.")
    return orjson.dumps([namespace, room]).decode()


def of_node(node: str) -> str:
    return f"n:{node}"
