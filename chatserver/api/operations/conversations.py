"""Operations on conversations and their participants."""

from __future__ import annotations

from typing import Any

from ...chat.chat import Chat
from ...chat.conversations import (
    ConversationEdit,
    Created,
    NewConversation,
    OneConversation,
    PageOfConversations,
)
from ...chat.participants import (
    NewParticipants,
    OneParticipant,
    PageOfParticipants,
    RoleChange,
)
from ...errors import Conflict, NotFound
from ..rate_limits import Cost, Rate
from ..requests.conversations import (
    AddParticipants,
    ChangeRole,
    CreateConversation,
    DirectWith,
    EditConversation,
    ListConversations,
    ListParticipants,
    OfConversation,
    OfParticipant,
    OtherUsers,
    PrivateWith,
)
from ..responses import conversations as answers
from .operation import Caller, Made, Operation, Route, Underway


def made(created: Created) -> Made:
    return Made(created.view, created.is_new)


async def create(chat: Chat, caller: Caller, new: NewConversation) -> Any:
    """Create a conversation. An existing direct conversation is returned instead."""
    return made(await chat.conversations.create(caller.user_id, new))


async def direct(chat: Chat, caller: Caller, others: OtherUsers) -> Any:
    """Get the direct conversation with a user. It is created if there is none."""
    return made(await chat.conversations.direct(caller.user_id, others.user_ids))


async def private(chat: Chat, caller: Caller, others: OtherUsers) -> Any:
    """Get the group of the caller and exactly these users. It is created if there is none."""
    return made(await chat.conversations.private(caller.user_id, others.user_ids))


async def own(chat: Chat, caller: Caller, asked: PageOfConversations) -> Any:
    """List the caller's conversations, most recently active first."""
    items, cursor = await chat.conversations.own(caller.user_id, asked)
    return {"items": items, "nextCursor": cursor}


async def get(chat: Chat, caller: Caller, asked: OneConversation) -> Any:
    """Get a conversation."""
    return await chat.conversations.get(caller.user_id, asked.conversation_id)


async def edit(chat: Chat, caller: Caller, edit: ConversationEdit) -> Any:
    """Change the name, avatar or metadata of a conversation. Admins only."""
    return await chat.conversations.edit(caller.user_id, edit)


async def delete(chat: Chat, caller: Caller, asked: OneConversation) -> Any:
    """Delete a conversation for all participants. Owner only."""
    done = await chat.conversations.delete(caller.user_id, asked.conversation_id)
    return None if done else Underway()


async def participants(chat: Chat, caller: Caller, asked: PageOfParticipants) -> Any:
    """List the participants: the owner, the admins, the members, each in the order of joining."""
    items, cursor = await chat.participants.page(caller.user_id, asked)
    return {"items": items, "nextCursor": cursor}


async def add(chat: Chat, caller: Caller, new: NewParticipants) -> Any:
    """Add participants. Admins only; only the owner can add admins. Existing participants keep their role."""
    return await chat.participants.add(caller.user_id, new)


async def change_role(chat: Chat, caller: Caller, change: RoleChange) -> Any:
    """Change a participant's role. Owner only. Making another user the owner makes the caller an admin."""
    return await chat.participants.change_role(caller.user_id, change)


async def remove(chat: Chat, caller: Caller, asked: OneParticipant) -> None:
    """Remove a participant (admins only), or leave the conversation."""
    await chat.participants.remove(caller.user_id, asked.conversation_id, asked.user_id)


_ALL = "/api/conversations"
_ONE = _ALL + "/{conversationId}"
_BY_REST = "The Master Service decides who talks to whom, so it sees these requests. Sockets receive the results."
_CREATED = ("conversation:new",)

OPERATIONS = (
    Operation(
        "conversations.create",
        CreateConversation,
        create,
        answers.Conversation,
        route=Route("POST", _ALL, Rate(10), known="The direct conversation already exists."),
        only=_BY_REST,
        refuses=(Conflict,),
        announces=_CREATED,
        webhooks=("conversation.created",),
        cost=Cost("participant_ids", 50),
    ),
    # /direct and /private come before /{conversationId}, so that they are not taken for ids.
    Operation(
        "conversations.direct",
        DirectWith,
        direct,
        answers.Conversation,
        route=Route("POST", _ALL + "/direct", Rate(10), known="It already exists."),
        only=_BY_REST,
        refuses=(Conflict,),
        announces=_CREATED,
        webhooks=("conversation.created",),
    ),
    Operation(
        "conversations.private",
        PrivateWith,
        private,
        answers.Conversation,
        route=Route("POST", _ALL + "/private", Rate(10), known="It already exists."),
        only=_BY_REST,
        refuses=(Conflict,),
        announces=_CREATED,
        webhooks=("conversation.created",),
        cost=Cost("user_ids", 50),
    ),
    Operation(
        "conversations.own",
        ListConversations,
        own,
        answers.ConversationPage,
        # So that fifty devices may list 50 each at the same time, or one may ten times a second.
        route=Route("GET", _ALL, Rate(60)),
        only=_BY_REST,
        cost=Cost("limit", 10),
    ),
    Operation(
        "conversations.get",
        OfConversation,
        get,
        answers.Conversation,
        route=Route("GET", _ONE),
        only=_BY_REST,
        refuses=(NotFound,),
    ),
    Operation(
        "conversations.edit",
        EditConversation,
        edit,
        answers.Conversation,
        route=Route("PATCH", _ONE, Rate(10)),
        only=_BY_REST,
        refuses=(NotFound,),
        announces=("conversation:updated",),
    ),
    Operation(
        "conversations.delete",
        OfConversation,
        delete,
        None,
        route=Route(
            "DELETE",
            _ONE,
            Rate(10),
            background="The conversation is gone for everybody. The server removes what it leaves behind.",
        ),
        only=_BY_REST,
        refuses=(NotFound,),
        announces=("conversation:removed",),
        webhooks=("conversation.deleted",),
    ),
    Operation(
        "conversations.participants",
        ListParticipants,
        participants,
        answers.ParticipantPage,
        route=Route("GET", _ONE + "/participants"),
        only=_BY_REST,
        refuses=(NotFound,),
        cost=Cost("limit", 200),
        weighs=True,
    ),
    Operation(
        "conversations.add",
        AddParticipants,
        add,
        answers.Conversation,
        route=Route("POST", _ONE + "/participants", Rate(10, times=10)),
        only=_BY_REST,
        refuses=(NotFound,),
        announces=("conversation:joined", "participant:added", "participants:changed"),
        webhooks=("participant.added",),
        # Apart, so that a hundred calls of 1,000 users can fill a channel, however fast they are answered. One bucket
        # with room for them would have room for hundreds of calls that add one user.
        cost=Cost("user_ids", 1, apart=Rate(500, times=200)),
    ),
    Operation(
        "conversations.change_role",
        ChangeRole,
        change_role,
        answers.Participant,
        route=Route("PATCH", _ONE + "/participants/{userId}", Rate(10)),
        only=_BY_REST,
        refuses=(NotFound, Conflict),
        announces=("conversation:updated",),
    ),
    Operation(
        "conversations.remove",
        OfParticipant,
        remove,
        None,
        route=Route("DELETE", _ONE + "/participants/{userId}", Rate(10)),
        only=_BY_REST,
        refuses=(NotFound,),
        announces=("conversation:removed", "participant:removed", "participants:changed"),
        webhooks=("participant.removed",),
    ),
)
