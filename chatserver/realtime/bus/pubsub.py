"""The interface of a bus between nodes (see bus.Bus)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class PubSub(Protocol):
    @property
    def up(self) -> bool: ...
    def publish(
        self, channel: str, message: bytes, received: Callable[[int], None] | None = None
    ) -> None: ...
    def subscribe(self, channel: str) -> asyncio.Future[bool]: ...
    def unsubscribe(self, channel: str) -> None: ...
