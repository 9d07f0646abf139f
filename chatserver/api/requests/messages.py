"""Requests about messages, reactions and read marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from ...chat.messages import (
    MessageDeletion,
    MessageEdit,
    NewMessage,
    OneMessage,
    PageOfMessages,
    SyncFrom,
)
from ...chat.reactions import PageOfReactions, Reaction
from ...chat.read_state.receipts import PageOfReaders, ReadUpTo
from .schema import (
    MAX_ATTACHMENTS,
    MAX_FILE_NAME,
    MAX_MENTIONS,
    MAX_MIME_TYPE,
    MAX_PAGE,
    Cursor,
    Emoji,
    Id,
    Integer,
    ListField,
    Metadata,
    Request,
    Text,
    WebUrl,
    id_list,
    one_at_least,
    visible,
)


class AttachmentSchema(Schema):
    class Meta:
        unknown = RAISE

    type = Text(required=True, validate=validate.OneOf(["image", "video", "audio", "file"]))
    url = WebUrl({"https"}, required=True)
    name = Text(validate=[validate.Length(1, MAX_FILE_NAME), visible])
    mimeType = Text(validate=validate.Length(1, MAX_MIME_TYPE))  # noqa: N815
    size = Integer(0, 2**53 - 1)
    width = Integer(0, 1_000_000)
    height = Integer(0, 1_000_000)
    durationMs = Integer(0, 2**53 - 1)  # noqa: N815
    thumbnailUrl = WebUrl({"https"})  # noqa: N815


class SendMessage(Request):
    makes = NewMessage
    json_schema: ClassVar[Mapping[str, Any]] = one_at_least("content", "attachments")
    conversation_id = Id(required=True)
    content = Text(
        metadata={
            "description": "At most MESSAGE_MAX_CHARS characters (default: 10,000). With a visible "
            "character, unless the message has an attachment."
        }
    )
    attachments = ListField(
        fields.Nested(AttachmentSchema), validate=validate.Length(max=MAX_ATTACHMENTS)
    )
    reply_to = Id(allow_none=True)
    client_message_id = Text(allow_none=True, validate=validate.Length(1, 64))
    mentions = id_list(MAX_MENTIONS)
    metadata = Metadata()


class EditMessage(Request):
    makes = MessageEdit
    message_id = Id(required=True)
    content = Text(
        required=True,
        metadata={"description": "At most MESSAGE_MAX_CHARS characters (default: 10,000)."},
    )


class DeleteMessage(Request):
    makes = MessageDeletion
    message_id = Id(required=True)
    scope = Text(validate=validate.OneOf(["everyone", "self"]))


class React(Request):
    makes = Reaction
    message_id = Id(required=True)
    emoji = Emoji(required=True)


class OfMessage(Request):
    makes = OneMessage
    message_id = Id(required=True)


class ListReactions(Request):
    makes = PageOfReactions
    message_id = Id(required=True)
    emoji = Emoji()
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()


class ListReaders(Request):
    makes = PageOfReaders
    message_id = Id(required=True)
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()


class SyncMessages(Request):
    makes = SyncFrom
    json_schema: ClassVar[Mapping[str, Any]] = {
        "oneOf": [{"required": [key]} for key in ("lastMessageId", "afterSeq", "afterRev")]
    }
    conversation_id = Id(required=True)
    last_message_id = Id(allow_none=True)
    after_seq = Integer(0, 2**53 - 1)
    after_rev = Integer(0, 2**53 - 1)
    limit = Integer(1, MAX_PAGE)

    @validates_schema(pass_original=True)
    def one_position(self, _: Any, original: Mapping[str, Any], **__: Any) -> None:
        given = [key for key in ("lastMessageId", "afterSeq", "afterRev") if key in original]
        if len(given) != 1:
            raise ValidationError(
                "Give exactly one of lastMessageId, afterSeq and afterRev.",
                given[1] if given else "lastMessageId",
            )


class ListMessages(Request):
    makes = PageOfMessages
    conversation_id = Id(required=True)
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    before = Id(metadata={"description": "The id of a message, or its `seq`."})
    after = Id(
        metadata={"description": "The id of a message, or its `seq`. Not together with `before`."}
    )

    @validates_schema
    def one_direction(self, data: dict[str, Any], **_: Any) -> None:
        if "before" in data and "after" in data:
            raise ValidationError("Give before or after, not both.", "after")


class ReadConversation(Request):
    makes = ReadUpTo
    conversation_id = Id(required=True)
    up_to_message_id = Id(allow_none=True)
