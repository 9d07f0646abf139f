"""Events about messages."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ...chat.chat import Chat
from ...chat.messages import MessageDeletion, MessageEdit, NewMessage, SyncFrom, SyncResult
from ...errors import Conflict, Forbidden, NotFound
from ...realtime import Connection
from ..rate_limits import Rate
from ..requests.messages import DeleteMessage, EditMessage, SendMessage, SyncMessages
from ..responses import messages as answers
from .event import ClientEvent


def send(chat: Chat, connection: Connection, new: NewMessage) -> Awaitable[Any]:
    """Send a message. A repeat with the same `clientMessageId` returns the stored message, announced once."""
    return chat.messages.begin_send(connection.user_id, new)


async def edit(chat: Chat, connection: Connection, edit: MessageEdit) -> Any:
    """Edit the text of a message. Sender only."""
    return (await chat.messages.edit(connection.user_id, edit)).json


async def delete(chat: Chat, connection: Connection, deletion: MessageDeletion) -> Any:
    """Delete a message for everyone (sender and admins only), or hide it from the caller."""
    return await chat.messages.delete(connection.user_id, deletion)


async def sync(chat: Chat, connection: Connection, asked: SyncFrom) -> Any:
    """Get missed messages: with `afterRev` every new or changed message, otherwise only newer messages."""
    return synced(await chat.messages.sync(connection.user_id, asked))


def synced(found: SyncResult) -> dict[str, Any]:
    return {
        "conversationId": found.conversation_id,
        "messages": [message.wire() for message in found.page.messages],
        "hasMore": found.page.has_more,
        "lastSeq": found.last_seq,
        "lastRev": found.last_rev,
    }


EVENTS = [
    ClientEvent("message:send", SendMessage, send, Rate(20), answers.MessageResponse, (NotFound,)),
    ClientEvent(
        "message:edit",
        EditMessage,
        edit,
        Rate(10),
        answers.MessageResponse,
        (Forbidden, NotFound, Conflict),
    ),
    ClientEvent(
        "message:delete", DeleteMessage, delete, Rate(10), answers.Deletion, (Forbidden, NotFound)
    ),
    ClientEvent(
        "messages:sync",
        SyncMessages,
        sync,
        Rate(50),
        answers.SyncedResponse,
        (NotFound,),
        reply="messages:sync",
    ),
]
