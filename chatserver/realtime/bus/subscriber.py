"""The connection to Redis that is subscribed to channels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from .connection import RedisConnection, command

log = logging.getLogger(__name__)

_PING = command([b"PING"])


class Subscriber(RedisConnection):
    """Passes on each message as it arrives, and each confirmation of a channel."""

    def __init__(
        self,
        broken: Callable[[str], None],
        message: Callable[[bytes, bytes], None],
        confirmed: Callable[[bytes], None],
    ) -> None:
        """`confirmed` is called with each channel that Redis has subscribed or unsubscribed."""
        super().__init__(broken)
        self._message = message
        self._confirmed = confirmed

    def _ask(self) -> None:
        self.write(_PING)

    def _take(self, answer: Any) -> None:
        if type(answer) is not list:
            self._fail(str(answer))
            return
        kind = answer[0]
        if kind == b"message":
            try:
                self._message(answer[1], answer[2])
            except Exception:  # the next message is passed on, whatever is wrong with this one
                log.exception("a message from another node could not be handled")
        elif kind in (b"subscribe", b"unsubscribe"):
            self._confirmed(answer[1])
        elif kind != b"pong":
            self._server(answer)
