"""Events about messages."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ..chat.chat import Chat
from ..chat.messages import Synced
from ..limits import Rate
from ..realtime import Connection
from ..requests.messages import (
    DeleteMessage,
    EditMessage,
    MessageDeletion,
    MessageEdit,
    NewMessage,
    SendMessage,
    SyncFrom,
    SyncMessages,
)
from .event import Event


def send(chat: Chat, connection: Connection, new: NewMessage) -> Awaitable[Any]:
    return chat.messages.begin_send(connection.user_id, new)


async def edit(chat: Chat, connection: Connection, edit: MessageEdit) -> Any:
    return (await chat.messages.edit(connection.user_id, edit)).json


async def delete(chat: Chat, connection: Connection, deletion: MessageDeletion) -> Any:
    return await chat.messages.delete(connection.user_id, deletion)


async def sync(chat: Chat, connection: Connection, asked: SyncFrom) -> Any:
    return synced(await chat.messages.sync(connection.user_id, asked))


def synced(found: Synced) -> dict[str, Any]:
    return {
        "conversationId": found.conversation_id,
        "messages": [message.wire() for message in found.page.messages],
        "hasMore": found.page.has_more,
        "lastSeq": found.last_seq,
        "lastRev": found.last_rev,
    }


EVENTS = [
    Event("message:send", SendMessage, send, Rate(20), "the message"),
    Event("message:edit", EditMessage, edit, Rate(10), "the message"),
    Event(
        "message:delete",
        DeleteMessage,
        delete,
        Rate(10),
        "`{messageId, conversationId, deletedAt, scope}`",
    ),
    Event(
        "messages:sync",
        SyncMessages,
        sync,
        Rate(50),
        "`{conversationId, messages, hasMore, lastSeq, lastRev}`",
        reply="messages:sync",
    ),
]
