"""Operations on messages and reactions."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ...chat.chat import Chat
from ...chat.log.entry import Outcome
from ...chat.messages import (
    MessageDeletion,
    MessageEdit,
    NewMessage,
    OneMessage,
    PageOfMessages,
    SyncFrom,
)
from ...chat.reactions import PageOfReactions, Reaction
from ...errors import Conflict, Forbidden, NotFound
from ..rate_limits import Cost, Rate
from ..requests.messages import (
    DeleteMessage,
    EditMessage,
    ListMessages,
    ListReactions,
    OfMessage,
    React,
    SendMessage,
    SyncMessages,
)
from ..responses import messages as answers
from .operation import Caller, Event, Made, Operation, Route


def send(chat: Chat, caller: Caller, new: NewMessage) -> Awaitable[Any]:
    """Send a message. A repeat with the same `clientMessageId` returns the stored message, announced once."""
    return chat.messages.begin_send(caller.user_id, new)


def sent(outcome: Outcome) -> Made:
    return Made(outcome.message.json, is_new=outcome.entry is not None)


async def page(chat: Chat, caller: Caller, asked: PageOfMessages) -> Any:
    """Read a page of history in ascending order: the newest page, or that before or after a message or `seq`."""
    page = await chat.messages.page(caller.user_id, asked)
    return {"items": page.json, "hasMore": page.has_more}


async def get(chat: Chat, caller: Caller, asked: OneMessage) -> Any:
    """Get a message."""
    return (await chat.messages.get(caller.user_id, asked.message_id)).json


async def edit(chat: Chat, caller: Caller, edit: MessageEdit) -> Any:
    """Edit the text of a message. Sender only."""
    return (await chat.messages.edit(caller.user_id, edit)).json


async def delete(chat: Chat, caller: Caller, deletion: MessageDeletion) -> Any:
    """Delete a message for everyone (sender and admins only), or hide it from the caller."""
    return await chat.messages.delete(caller.user_id, deletion)


async def sync(chat: Chat, caller: Caller, asked: SyncFrom) -> Any:
    """Get missed messages: with `afterRev` every new or changed message, otherwise only newer messages."""
    found = await chat.messages.sync(caller.user_id, asked)
    return {
        "conversationId": found.conversation_id,
        "messages": found.page.json,
        "hasMore": found.page.has_more,
        "lastSeq": found.last_seq,
        "lastRev": found.last_rev,
    }


async def react(chat: Chat, caller: Caller, reaction: Reaction) -> Any:
    """Add a reaction. Adding it again changes nothing."""
    return await chat.reactions.add(caller.user_id, reaction)


async def unreact(chat: Chat, caller: Caller, reaction: Reaction) -> Any:
    """Remove the caller's reaction."""
    return await chat.reactions.remove(caller.user_id, reaction)


async def reactions(chat: Chat, caller: Caller, asked: PageOfReactions) -> Any:
    """List the users who have reacted to a message, by emoji, in the order of reacting."""
    return await chat.reactions.page(caller.user_id, asked)


_OF_CONVERSATION = "/api/conversations/{conversationId}/messages"
_ONE = "/api/messages/{messageId}"
_READ = "Sockets receive messages as they are sent, and catch up with `messages:sync`."

OPERATIONS = (
    Operation(
        "messages.send",
        SendMessage,
        send,
        answers.MessageResponse,
        event=Event("message:send", Rate(20)),
        route=Route("POST", _OF_CONVERSATION, Rate(20), known="The message was sent before."),
        refuses=(NotFound,),
        announces=("message:new",),
        webhooks=("message.created",),
        present=sent,
        ends_in_time=True,
    ),
    Operation(
        "messages.page",
        ListMessages,
        page,
        answers.MessagePageResponse,
        route=Route("GET", _OF_CONVERSATION),
        only=_READ,
        refuses=(NotFound,),
        weighs=True,
    ),
    Operation(
        "messages.get",
        OfMessage,
        get,
        answers.MessageResponse,
        route=Route("GET", _ONE),
        only=_READ,
        refuses=(NotFound,),
    ),
    Operation(
        "messages.edit",
        EditMessage,
        edit,
        answers.MessageResponse,
        event=Event("message:edit", Rate(10)),
        route=Route("PATCH", _ONE, Rate(10)),
        refuses=(Forbidden, NotFound, Conflict),
        announces=("message:updated",),
        webhooks=("message.updated",),
        ends_in_time=True,
    ),
    Operation(
        "messages.delete",
        DeleteMessage,
        delete,
        answers.Deletion,
        event=Event("message:delete", Rate(10)),
        route=Route("DELETE", _ONE, Rate(10)),
        refuses=(Forbidden, NotFound),
        announces=("message:deleted",),
        webhooks=("message.deleted",),
        ends_in_time=True,
    ),
    Operation(
        "messages.sync",
        SyncMessages,
        sync,
        answers.SyncedResponse,
        event=Event("messages:sync", Rate(50), reply="messages:sync"),
        only="It closes the gap in what a socket received. Over REST there is no such gap.",
        refuses=(NotFound,),
        weighs=True,
    ),
    Operation(
        "messages.react",
        React,
        react,
        answers.Reacted,
        event=Event("reaction:add", Rate(20)),
        route=Route("POST", _ONE + "/reactions", Rate(20)),
        refuses=(NotFound, Conflict),
        announces=("reaction:added",),
        webhooks=("reaction.added",),
        ends_in_time=True,
    ),
    Operation(
        "messages.unreact",
        React,
        unreact,
        answers.Reacted,
        event=Event("reaction:remove", Rate(20)),
        route=Route("DELETE", _ONE + "/reactions/{emoji}", Rate(20)),
        refuses=(NotFound,),
        announces=("reaction:removed",),
        webhooks=("reaction.removed",),
        ends_in_time=True,
    ),
    Operation(
        "messages.reactions",
        ListReactions,
        reactions,
        answers.ReactionPage,
        route=Route("GET", _ONE + "/reactions"),
        only="A message has the first users of each emoji, and sockets receive each change.",
        refuses=(NotFound,),
        cost=Cost("limit", 200),
        weighs=True,
    ),
)
