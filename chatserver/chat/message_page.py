"""A page of messages, bounded in number and in encoded bytes."""

from __future__ import annotations

from ..json_codec import Json, encode
from .message import Message

PAGE_BYTES = 512 * 1024
"""A page ends early, but not before its first message, when its messages would be longer as JSON."""
HIDDEN_BYTES = 32
"""How much longer a message is at most for a reader who has hidden it."""


class MessagePage:
    """Messages, encoded together: a page costs much less that way than message by message."""

    __slots__ = ("_encoded", "has_more", "messages")

    def __init__(self, messages: list[Message], has_more: bool) -> None:
        self.messages = messages
        self.has_more = has_more
        self._encoded: bytes | None = None

    @classmethod
    def of(
        cls, found: list[Message], limit: int, *, newest: bool = False, has_more: bool = False
    ) -> MessagePage:
        """Returns a page of the first messages, as many as it may have.

        `newest`: they are in descending order. `has_more`: there are more than those that were found.
        """

        def first(number: int) -> MessagePage:
            shown = found[:number]
            return cls(shown[::-1] if newest else shown, has_more or len(found) > number)

        page = first(limit)
        if len(page.encoded) + HIDDEN_BYTES * len(page.messages) > PAGE_BYTES:
            return first(_fitting(found[:limit]))
        return page

    @property
    def encoded(self) -> bytes:
        """The list of the messages in their wire format."""
        if self._encoded is None:
            self._encoded = encode([message.part for message in self.messages])
        return self._encoded

    @property
    def json(self) -> Json:
        """`encoded`, as a part of other JSON."""
        return Json(self.encoded)


def _fitting(messages: list[Message]) -> int:
    """Returns how many of the first messages a page may have."""
    left = PAGE_BYTES
    for n, message in enumerate(messages):
        left -= len(message.encoded) + HIDDEN_BYTES
        if n and left < 0:
            return n
    return len(messages)
