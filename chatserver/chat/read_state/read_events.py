"""The events and the answers that tell of reading."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ...clock import iso
from ...mongo import Document
from ..message import entry_id


def announcement(receipt: Document) -> tuple[str, Mapping[str, Any]]:
    """Returns the event and the payload of a read notice, from the receipt that has `place`."""
    conversation_id, user_id, at = receipt["conversationId"], receipt["userId"], receipt["at"]
    message_id = entry_id(conversation_id, receipt["place"])
    if "count" not in receipt:
        return "message:read", message_read(message_id, conversation_id, user_id, at)
    return "conversation:read", conversation_read(
        message_id, conversation_id, user_id, receipt["count"], at
    )


def message_read(
    message_id: str, conversation_id: str, user_id: str, at: datetime
) -> Mapping[str, Any]:
    return {
        "messageId": message_id,
        "conversationId": conversation_id,
        "userId": user_id,
        "readAt": iso(at),
    }


def conversation_read(
    message_id: str | None, conversation_id: str, user_id: str, count: int, at: datetime
) -> Mapping[str, Any]:
    return {
        "conversationId": conversation_id,
        "userId": user_id,
        "upToMessageId": message_id,
        "count": count,
        "readAt": iso(at),
    }
