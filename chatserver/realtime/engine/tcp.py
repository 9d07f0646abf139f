"""Limits on what the kernel buffers for a connection, and for how long."""

from __future__ import annotations

import asyncio
import socket
import sys

ABORT_S = 5.0
"""How long a closing connection may take to send its last data. Without this limit a peer that never reads
would keep the transport and its buffer forever."""

# Linux's values: Python's socket module does not have these names on every platform.
TCP_NOTSENT_LOWAT = 25
TCP_USER_TIMEOUT = 18
KERNEL_BYTES = 128 * 1024
"""The most unsent bytes that the kernel buffers for a connection. By default Linux buffers up to 4 MiB, four
times our own limit. Bytes in flight to a client do not count, so the limit slows no client down."""


def set_tcp(transport: asyncio.Transport | None, option: int, value: int) -> None:
    """Set a TCP option, if the connection is TCP on Linux."""
    if transport is None or transport.is_closing() or sys.platform != "linux":
        return
    plain = transport.get_extra_info("socket")
    if plain is not None and plain.family != socket.AF_UNIX:
        plain.setsockopt(socket.IPPROTO_TCP, option, value)
