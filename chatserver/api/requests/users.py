"""Requests about users, presence, and the connection itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from marshmallow import fields, validate

from ...chat.presence.conversation_presence import PageOfPresence
from ...chat.presence.subscriptions import MOST
from ...chat.users import OneUser, UserChanges, UserSync
from .conversations import OtherUsers
from .schema import (
    MAX_PAGE,
    Cursor,
    Id,
    ListField,
    Metadata,
    Request,
    Text,
    WebUrl,
    id_list,
    name_field,
)


class SyncUser(Request):
    makes = UserSync
    external_user_id = Id(required=True)
    name = name_field()
    avatar_url = WebUrl({"https", "http"}, allow_none=True)
    status = Text(validate=validate.OneOf(["active", "blocked"]))
    metadata = Metadata()

    def make(self, data: dict[str, Any]) -> Any:
        return UserSync(data.pop("external_user_id"), cast(UserChanges, data))


@dataclass(frozen=True, slots=True)
class UserBatch:
    """`users` is not parsed yet, because an invalid row must not stop the others."""

    users: tuple[Any, ...]


class SyncUsers(Request):
    makes = UserBatch
    users = ListField(
        fields.Raw(
            allow_none=True,
            metadata={"description": "As the body of `POST /api/users/sync`."},
        ),
        required=True,
        validate=validate.Length(1, 1000),
    )


class OfUser(Request):
    makes = OneUser
    user_id = Id(required=True)


class OfExternalUser(Request):
    makes = OneUser
    external_user_id = Id(required=True)

    def make(self, data: dict[str, Any]) -> Any:
        return OneUser(data["external_user_id"])


class PresenceOf(Request):
    makes = OtherUsers
    user_ids = id_list(200, required=True)


class NoPresenceOf(Request):
    makes = OtherUsers
    user_ids = id_list(MOST, required=True)


class ListPresence(Request):
    makes = PageOfPresence
    conversation_id = Id(required=True)
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()


@dataclass(frozen=True, slots=True)
class EmptyPayload:
    pass


class NoPayload(Request):
    makes = EmptyPayload


@dataclass(frozen=True, slots=True)
class FreshToken:
    token: str = field(repr=False)


class RefreshToken(Request):
    makes = FreshToken
    token = Text(required=True, validate=validate.Length(1, 8192))
