"""Conversations and their participants, as callers see them."""

from __future__ import annotations

from marshmallow import fields

from ...chat.membership import ROLES
from ..requests.schema import Cursor, Id, Metadata, WebUrl, name_field
from .messages import MessageResponse
from .response import Answer, ServerEvent, Time, each, number, one_of


class Participant(Answer):
    user_id = Id()
    role = one_of(*ROLES)
    joined_at = Time()
    last_read_seq = number()


class ParticipantPage(Answer):
    """`nextCursor` is null on the last page."""

    items = each(Participant)
    next_cursor = Cursor(allow_none=True)


class Conversation(Answer):
    """`participants` has at most 100: the caller first, if the view is for one caller, then the owner, the admins and the
    members in the order of joining."""

    called = "the conversation"
    id = Id()
    type = one_of("direct", "group", "channel")
    name = name_field()
    avatar_url = WebUrl({"https", "http"}, allow_none=True)
    metadata = Metadata()
    created_by = Id()
    created_at = Time()
    updated_at = Time()
    last_seq = number()
    last_rev = number()
    last_message = fields.Nested(MessageResponse, allow_none=True)
    participant_count = number()
    is_large = fields.Boolean()
    participants = each(Participant)


class OwnConversation(Conversation):
    """A conversation in the user's own list."""

    called = "the conversation"
    unread_count = number()


class ConversationPage(Answer):
    """Most recently active first. `nextCursor` is null on the last page."""

    items = each(OwnConversation)
    next_cursor = Cursor(allow_none=True)


class OneRoom(Answer):
    conversation_id = Id()


class ParticipantChanged(Answer):
    conversation_id = Id()
    user_id = Id()
    timestamp = Time()


class ParticipantsChanged(Answer):
    conversation_id = Id()
    participant_count = number()
    timestamp = Time()


_IF_SMALL = "the conversation, unless it is large"

SERVER_EVENTS = (
    ServerEvent("conversation:new", Conversation, "all participants, on creation"),
    ServerEvent("conversation:joined", Conversation, "a user who was added later"),
    ServerEvent(
        "conversation:removed",
        OneRoom,
        "a user who was removed; all participants, on deletion",
    ),
    ServerEvent("conversation:updated", Conversation),
    ServerEvent("participant:added", ParticipantChanged, _IF_SMALL),
    ServerEvent("participant:removed", ParticipantChanged, _IF_SMALL),
    ServerEvent(
        "participants:changed",
        ParticipantsChanged,
        "the conversation, if it is large, at most once per second",
    ),
)
"""The events that sockets receive about conversations."""
