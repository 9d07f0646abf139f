"""The channels that are wanted, and those that Redis has confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from ..memory import Memory
from .connection import command

CHUNK = 1000
"""The most channels in one command. Redis does nothing else while it runs the command, for about 0.3 ms."""


class Channels:
    """Wanted channels outlive a connection; confirmations do not.

    If a channel changes several times before the changes are sent, only its last state is sent: at most one
    command per channel and write.
    """

    def __init__(self, always: Iterable[bytes] = ()) -> None:
        self.names: dict[bytes, str | None] = dict.fromkeys(always)
        """By wanted channel: the subscriber's name for it. The bus's own channels have None."""
        self._sent: set[bytes] = set()
        """The channels that are subscribed once Redis has received all commands."""
        self._under_way: dict[bytes, int] = {}
        self._changed: dict[bytes, None] = dict.fromkeys(self.names)
        self._waiting: dict[bytes, list[asyncio.Future[bool]]] = {}
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settled.set_result(None)

    def watch(self, memory: Memory) -> None:
        memory(
            "channels",
            lambda: sum(
                map(len, (self.names, self._sent, self._under_way, self._changed, self._waiting))
            ),
            None,
        )

    def want(self, channel: bytes, name: str) -> None:
        self.names[channel] = name
        self._changed[channel] = None

    def forget(self, channel: bytes) -> None:
        if self.names.pop(channel, None) is not None:
            if channel in self._sent:
                self._changed[channel] = None
            else:
                # While Redis is away, nothing else removes it.
                self._changed.pop(channel, None)
            self._answer(channel, False)

    def confirmation(self, channel: bytes) -> asyncio.Future[bool]:
        """The future is True when Redis confirms the channel, False if it is forgotten or the connection is
        lost."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if channel in self._sent and channel not in self._under_way:
            future.set_result(True)
        else:
            self._waiting.setdefault(channel, []).append(future)
        return future

    def changes(self) -> Iterator[bytes]:
        """Yields the commands that bring Redis to the wanted state. Each counts as sent when it is yielded."""
        while self._changed:
            changed = [self._changed.popitem()[0] for _ in range(min(CHUNK, len(self._changed)))]
            add = [
                channel
                for channel in changed
                if channel in self.names and channel not in self._sent
            ]
            remove = [
                channel
                for channel in changed
                if channel not in self.names and channel in self._sent
            ]
            self._sent.update(add)
            self._sent.difference_update(remove)
            for channel in (*add, *remove):
                self._under_way[channel] = self._under_way.get(channel, 0) + 1
            if add or remove:
                yield b"".join(
                    command([verb, *which])
                    for verb, which in ((b"SUBSCRIBE", add), (b"UNSUBSCRIBE", remove))
                    if which
                )

    def confirmed(self, channel: bytes) -> None:
        """Redis has executed one command for the channel."""
        left = self._under_way.get(channel, 0) - 1
        if left > 0:
            self._under_way[channel] = left
            return
        self._under_way.pop(channel, None)
        if channel in self._sent:
            self._answer(channel, True)
        if not self._under_way and not self._settled.done():
            self._settled.set_result(None)

    def settled(self) -> asyncio.Future[None]:
        """The future is done when Redis has confirmed all commands."""
        if self._settled.done() and self._under_way:
            self._settled = asyncio.get_running_loop().create_future()
        return self._settled

    def lost(self) -> None:
        """The connection is lost: all wanted channels must be sent again."""
        self._settled.cancel()
        self._sent.clear()
        self._under_way.clear()
        self._changed = dict.fromkeys(self.names)
        for channel in list(self._waiting):
            self._answer(channel, False)

    def _answer(self, channel: bytes, answer: bool) -> None:
        for future in self._waiting.pop(channel, ()):
            if not future.done():
                future.set_result(answer)
