"""Requests about conversations and their participants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from marshmallow import fields, validate

from ...chat.conversations import (
    ConversationEdit,
    NewConversation,
    OneConversation,
    PageOfConversations,
)
from ...chat.membership import ROLES
from ...chat.participants import NewParticipants, OneParticipant, PageOfParticipants, RoleChange
from ...errors import ValidationFailed
from .schema import (
    MAX_PAGE,
    MAX_PARTICIPANTS,
    Cursor,
    Id,
    Metadata,
    Request,
    Text,
    WebUrl,
    id_list,
    name_field,
)


class OfConversation(Request):
    makes = OneConversation
    recurs = True
    conversation_id = Id(required=True)


class CreateConversation(Request):
    makes = NewConversation
    type = Text(required=True, validate=validate.OneOf(["direct", "group", "channel"]))
    participant_ids = id_list(MAX_PARTICIPANTS, required=True)
    name = name_field()
    avatar_url = WebUrl({"https", "http"}, allow_none=True)
    metadata = Metadata()


class EditConversation(Request):
    makes = ConversationEdit
    json_schema: ClassVar[Mapping[str, Any]] = {"minProperties": 1}
    conversation_id = Id(required=True)
    name = name_field()
    avatar_url = WebUrl({"https", "http"}, allow_none=True)
    metadata = Metadata()

    def make(self, data: dict[str, Any]) -> Any:
        conversation_id = data.pop("conversation_id")
        if not data:
            raise ValidationFailed.of("name", "Give at least one of name, avatarUrl and metadata.")
        return ConversationEdit(conversation_id, data)


@dataclass(frozen=True, slots=True)
class OtherUsers:
    user_ids: tuple[str, ...]


class DirectWith(Request):
    makes = OtherUsers
    user_id = Id(required=True)

    def make(self, data: dict[str, Any]) -> Any:
        return OtherUsers((data["user_id"],))


class PrivateWith(Request):
    makes = OtherUsers
    user_ids = id_list(MAX_PARTICIPANTS, minimum=1, required=True)


class AddParticipants(Request):
    makes = NewParticipants
    conversation_id = Id(required=True)
    user_ids = id_list(MAX_PARTICIPANTS, minimum=1, required=True)
    role = Text(validate=validate.OneOf([role for role in ROLES if role != "owner"]))


class ChangeRole(Request):
    makes = RoleChange
    conversation_id = Id(required=True)
    user_id = Id(required=True)
    role = Text(required=True, validate=validate.OneOf(ROLES))


class OfParticipant(Request):
    makes = OneParticipant
    conversation_id = Id(required=True)
    user_id = Id(required=True)


class ListConversations(Request):
    makes = PageOfConversations
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()


class ListParticipants(Request):
    makes = PageOfParticipants
    conversation_id = Id(required=True)
    role = Text(validate=validate.OneOf(ROLES))
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()
