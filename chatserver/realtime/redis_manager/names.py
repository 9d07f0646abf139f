"""What clients and channels are called."""

from __future__ import annotations

import re
import secrets
from typing import Any

import orjson

_SID = re.compile(r"([0-9a-f]{16})\.[\w-]{20}")


def new_sid(node: str) -> str:
    return f"{node}.{secrets.token_urlsafe(15)}"


def node_of(room: Any) -> str | None:
    """Where the client is whose id this is; None of any other room."""
    found = _SID.fullmatch(room) if isinstance(room, str) else None
    return found[1] if found else None


def of_room(namespace: str, room: Any) -> str:
    """The channel of a room; None is the room of all in the namespace."""
    if room is not None and (isinstance(room, bool) or not isinstance(room, str | int)):
        raise TypeError(f"A room is named by a string or an integer, not by {room!r}.")
    return orjson.dumps([namespace, room]).decode()


def of_node(node: str) -> str:
    return f"n:{node}"
