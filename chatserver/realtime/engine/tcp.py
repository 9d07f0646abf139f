"""Bounds on what the kernel keeps for a connection, and how long."""

from __future__ import annotations

import asyncio
import socket
import sys

ABORT_S = 5.0
"""How long a closing connection may take to send the rest. A peer that never reads would keep the
transport, and its buffer, for ever."""

# Linux's; the one is in Python's socket module from 3.12 on, the other on Linux alone.
TCP_NOTSENT_LOWAT = 25
TCP_USER_TIMEOUT = 18
KERNEL_BYTES = 128 * 1024
"""Unsent bytes that the kernel takes for a connection. Linux would take up to 4 MiB, four times what
we keep ourselves. What is under way to a client that reads does not count: no client is slower for it."""


def set_tcp(transport: asyncio.Transport | None, option: int, value: int) -> None:
    """Set an option of TCP, where there are TCP and the option."""
    if transport is None or transport.is_closing() or sys.platform != "linux":
        return
    plain = transport.get_extra_info("socket")
    if plain is not None and plain.family != socket.AF_UNIX:
        plain.setsockopt(socket.IPPROTO_TCP, option, value)
