"""Messages, reactions and read marks, as callers see them."""

from __future__ import annotations

from marshmallow import fields, validate

from ..requests.messages import AttachmentSchema
from ..requests.schema import Cursor, Emoji, Id, Metadata, Text
from .response import Answer, ServerEvent, Time, each, ids, number, one_of

SCOPES = ("everyone", "self")


class ReactionCount(Answer):
    """`count` is exact. A message has at most 50 of the `userIds`, those who reacted first."""

    emoji = Emoji()
    count = number(1)
    user_ids = ids()


class MessageResponse(Answer):
    """A message. A deleted message keeps its `seq`; it has `isDeleted` and no content."""

    called = "the message"
    id = Id()
    conversation_id = Id()
    seq = number(1)
    rev = number(1)
    sender_id = Id()
    content = Text()
    attachments = each(AttachmentSchema)
    reply_to = Id(allow_none=True)
    mentions = ids()
    metadata = Metadata()
    client_message_id = Text(allow_none=True, validate=validate.Length(1, 64))
    reactions = each(ReactionCount)
    is_edited = fields.Boolean()
    is_deleted = fields.Boolean()
    created_at = Time()
    updated_at = Time()
    deleted_at = Time(allow_none=True)


class MessagePageResponse(Answer):
    """A page of history, oldest message first."""

    items = each(MessageResponse)
    has_more = fields.Boolean()


class SyncedResponse(Answer):
    """New and changed messages, in ascending order. `lastSeq` and `lastRev` are those of the conversation."""

    conversation_id = Id()
    messages = each(MessageResponse)
    has_more = fields.Boolean()
    last_seq = number()
    last_rev = number()


class Deletion(Answer):
    message_id = Id()
    conversation_id = Id()
    deleted_at = Time()
    scope = one_of(*SCOPES)


class Reacted(Answer):
    """`totalCount`: the number of users who have now reacted with this emoji."""

    message_id = Id()
    conversation_id = Id()
    emoji = Emoji()
    user_id = Id()
    total_count = number()


class ReactionPage(Answer):
    """`count` is that of all users, `userIds` are those of this page. `nextCursor` is null on the last page."""

    items = each(ReactionCount)
    next_cursor = Cursor(allow_none=True)


class MessageRead(Answer):
    message_id = Id()
    conversation_id = Id()
    user_id = Id()
    read_at = Time()


class ConversationRead(Answer):
    """`count`: the number of messages that became read. `upToMessageId` is null if there are no messages."""

    conversation_id = Id()
    user_id = Id()
    up_to_message_id = Id(allow_none=True)
    count = number()
    read_at = Time()


class Reader(Answer):
    user_id = Id()
    read_at = Time(allow_none=True)


class ReaderPage(Answer):
    """The earliest reader first. `readAt` is null if the time is not kept any more. `nextCursor` is null on the last page."""

    items = each(Reader)
    next_cursor = Cursor(allow_none=True)


class UnreadCount(Answer):
    conversation_id = Id()
    count = number()


# --- events to sockets --------------------------------------------------------------------------


class MessageUpdated(Answer):
    message_id = Id()
    conversation_id = Id()
    content = Text()
    is_edited = fields.Boolean()
    updated_at = Time()
    seq = number(1)
    rev = number(1)


class MessageDeleted(Deletion):
    rev = number(1)


class ReactionChanged(Reacted):
    rev = number(1)


_OF_READING = "the conversation; in a large one, the devices of the reader"

SERVER_EVENTS = (
    ServerEvent(
        "message:new",
        MessageResponse,
        "the conversation, including all devices of the sender",
    ),
    ServerEvent("message:updated", MessageUpdated),
    ServerEvent(
        "message:deleted",
        MessageDeleted,
        "the conversation; with the scope `self`, only the caller's devices",
    ),
    ServerEvent("reaction:added", ReactionChanged),
    ServerEvent("reaction:removed", ReactionChanged),
    ServerEvent("message:read", MessageRead, _OF_READING),
    ServerEvent("conversation:read", ConversationRead, _OF_READING),
    ServerEvent("messages:sync", SyncedResponse, "this socket, if it gave no callback"),
)
"""The events that sockets receive about messages."""
