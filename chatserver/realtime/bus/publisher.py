"""The connection to Redis that publishes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from .connection import RedisConnection, command

log = logging.getLogger(__name__)

Received = Callable[[int], None]

_HELLO = command([b"HELLO", b"2"])
_PUBLISH = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"


class Publisher(RedisConnection):
    """Publishes all messages of one turn of the event loop in one write."""

    def __init__(self, broken: Callable[[str], None]) -> None:
        super().__init__(broken)
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._waiting: deque[Received | None] = deque([None])
        self._greetings = 1

    @property
    def unanswered(self) -> int:
        """The number of messages that Redis has not replied to."""
        return len(self._waiting) - self._greetings

    def publish(self, channel: bytes, message: bytes, received: Received | None) -> None:
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(_PUBLISH % (len(channel), channel, len(message), message))
        self._waiting.append(received)

    def flush(self) -> None:
        if self._out:
            out, self._out = self._out, []
            self.write(b"".join(out))

    def _ask(self) -> None:
        self.flush()
        self._waiting.append(None)
        self._greetings += 1
        # Not PING: HELLO also reveals a master that became a replica, and needs no permission.
        self.write(_HELLO)

    def _take(self, answer: Any) -> None:
        received = self._waiting.popleft()
        if type(answer) is int:
            if received is not None:
                try:
                    received(answer)
                except Exception:  # the connection continues, whatever a callback raises
                    log.exception("a callback for the number of receivers failed")
        elif type(answer) is list:
            self._greetings -= 1
            self._server(answer)
        else:
            self._fail(str(answer))
