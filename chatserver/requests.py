"""What callers may ask: every payload of every door, parsed once into a frozen type.

A type's schema refuses unknown keys and wrong types by name; below the doors nothing is checked again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import regex
from marshmallow import (
    RAISE,
    Schema,
    ValidationError,
    fields,
    post_load,
    validate,
    validates_schema,
)

from . import wire
from .errors import ValidationFailed

MAX_ID = 128
MAX_NAME = 200
MAX_URL = 2048
MAX_METADATA_BYTES = 2048
MAX_ATTACHMENTS = 10
MAX_MENTIONS = 50
MAX_PARTICIPANTS = 1000
"""Users named in one request; a conversation may have more."""
MAX_PAGE = 200

# --- fields -------------------------------------------------------------------------------------


class Text(fields.String):
    """A string that is valid Unicode: a lone surrogate cannot be sent to anybody as UTF-8."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if type(value) is not str:
            raise self.make_error("invalid")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValidationError("Not valid Unicode: a lone surrogate.") from None
        return value


class Id(Text):
    """An identifier: 1..128 printable characters."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not 0 < len(text) <= MAX_ID:
            raise ValidationError(f"Must have 1 to {MAX_ID} characters.")
        if not text.isprintable():
            raise ValidationError("Has characters that cannot be printed.")
        return text


class Whole(fields.Integer):
    """A whole number given as a JSON number."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(low, high), **kwargs)


class Metadata(fields.Field[Mapping[str, Any]]):
    """A flat object of strings, finite numbers, booleans and nulls, at most 2 KiB of JSON."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("Must be an object.")
        for key, one in value.items():
            if isinstance(one, float) and not math.isfinite(one):
                raise ValidationError(f"{key!r} is not a finite number.")
            if one is not None and not isinstance(one, (str, int, float, bool)):
                raise ValidationError("Must be flat: strings, numbers, booleans and nulls only.")
        try:
            size = len(wire.encode(value))
        except TypeError:
            raise ValidationError("Has a lone surrogate, or a number beyond 64 bits.") from None
        if size > MAX_METADATA_BYTES:
            raise ValidationError(f"Must be at most {MAX_METADATA_BYTES} bytes of JSON.")
        return value


_EMOJI = regex.compile(
    r"(?=.*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3])\X|:[A-Za-z0-9_+\-]{1,30}:"
)


class Emoji(Text):
    """One emoji (a single grapheme), or a `:shortcode:`; at most 32 characters."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not 0 < len(text) <= 32 or not _EMOJI.fullmatch(text):
            raise ValidationError("Must be one emoji or a :shortcode:, at most 32 characters.")
        return text


class Several(fields.List[Any]):
    """A list, as a tuple: what comes out of a schema does not change any more."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return tuple(super()._deserialize(value, attr, data, **kwargs))


def _url(schemes: set[str], **kwargs: Any) -> fields.Url:
    return fields.Url(
        schemes=schemes, require_tld=False, validate=validate.Length(max=MAX_URL), **kwargs
    )


def _ids(most: int, least: int = 0, **kwargs: Any) -> Several:
    return Several(Id(), validate=validate.Length(min=least, max=most), **kwargs)


def _name(**kwargs: Any) -> Text:
    return Text(validate=validate.Length(1, MAX_NAME), allow_none=True, **kwargs)


# --- schemas ------------------------------------------------------------------------------------


class Request(Schema):
    """A schema that makes a frozen type. Keys are camelCase on the wire, snake_case inside."""

    makes: ClassVar[type]

    class Meta:
        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        head, *rest = field_name.split("_")
        field_obj.data_key = head + "".join(map(str.title, rest))

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        return self.makes(**data)


@cache
def _schema(kind: type[Request]) -> Request:
    return kind()


def parse(kind: type[Request], data: Any) -> Any:
    """The frozen value that `data` (decoded JSON) stands for.

    Raises ValidationFailed; its details map each wrong field to its reasons.
    """
    try:
        return _schema(kind).load(data)
    except ValidationError as error:
        raise ValidationFailed(details=_flat(error.messages_dict)) from None


def _flat(messages: Mapping[Any, Any], path: str = "") -> dict[str, list[str]]:
    flat: dict[str, list[str]] = {}
    for key, value in messages.items():
        where = path if key == "_schema" and path else f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            flat.update(_flat(value, where))
        else:
            flat[printable(where)] = [str(one) for one in value]
    return flat


def ids_of(request: Any) -> dict[str, str]:
    """For the log: which conversation or message a request is about."""
    ids = {name: getattr(request, name, None) for name in ("conversation_id", "message_id")}
    return {name: value for name, value in ids.items() if value is not None}


def printable(text: str) -> str:
    """A caller's own key comes back in the answer: whatever it is, the answer must be sendable."""
    return text[:100].encode("utf-8", "replace").decode()


# --- messages -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewMessage:
    conversation_id: str
    content: str = ""
    attachments: tuple[Mapping[str, Any], ...] = ()
    reply_to: str | None = None
    client_message_id: str | None = None
    mentions: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class AttachmentSchema(Schema):
    class Meta:
        unknown = RAISE

    type = Text(required=True, validate=validate.OneOf(["image", "video", "audio", "file"]))
    url = _url({"https"}, required=True)
    name = Text(validate=validate.Length(1, MAX_NAME))
    mimeType = Text(validate=validate.Length(1, 100))  # noqa: N815
    size = Whole(0, 2**53 - 1)
    width = Whole(0, 1_000_000)
    height = Whole(0, 1_000_000)
    durationMs = Whole(0, 2**53 - 1)  # noqa: N815
    thumbnailUrl = _url({"https"})  # noqa: N815


class SendMessage(Request):
    makes = NewMessage
    conversation_id = Id(required=True)
    content = Text()
    attachments = Several(
        fields.Nested(AttachmentSchema), validate=validate.Length(max=MAX_ATTACHMENTS)
    )
    reply_to = Id(allow_none=True)
    client_message_id = Text(allow_none=True, validate=validate.Length(1, 64))
    mentions = _ids(MAX_MENTIONS)
    metadata = Metadata()


@dataclass(frozen=True, slots=True)
class MessageEdit:
    message_id: str
    content: str


class EditMessage(Request):
    makes = MessageEdit
    message_id = Id(required=True)
    content = Text(required=True)


@dataclass(frozen=True, slots=True)
class MessageDeletion:
    message_id: str
    scope: str = "everyone"


class DeleteMessage(Request):
    makes = MessageDeletion
    message_id = Id(required=True)
    scope = Text(validate=validate.OneOf(["everyone", "self"]))


@dataclass(frozen=True, slots=True)
class Reaction:
    message_id: str
    emoji: str


class React(Request):
    makes = Reaction
    message_id = Id(required=True)
    emoji = Emoji(required=True)


@dataclass(frozen=True, slots=True)
class OneMessage:
    message_id: str


class OfMessage(Request):
    makes = OneMessage
    message_id = Id(required=True)


@dataclass(frozen=True, slots=True)
class SyncFrom:
    """Where a client stands: exactly one of the three; `None` in all: at the very beginning."""

    conversation_id: str
    last_message_id: str | None = None
    after_seq: int | None = None
    after_rev: int | None = None
    limit: int = 100


class SyncMessages(Request):
    makes = SyncFrom
    conversation_id = Id(required=True)
    last_message_id = Id(allow_none=True)
    after_seq = Whole(0, 2**53 - 1)
    after_rev = Whole(0, 2**53 - 1)
    limit = Whole(1, MAX_PAGE)

    @validates_schema(pass_original=True)
    def one_position(self, _: Any, original: Mapping[str, Any], **__: Any) -> None:
        given = [key for key in ("lastMessageId", "afterSeq", "afterRev") if key in original]
        if len(given) != 1:
            raise ValidationError(
                "Give one of lastMessageId, afterSeq and afterRev.",
                given[1] if given else "lastMessageId",
            )


@dataclass(frozen=True, slots=True)
class PageOfMessages:
    conversation_id: str
    limit: int = 50
    before: str | None = None
    after: str | None = None


class ListMessages(Request):
    """`before` and `after` are message ids, or sequence numbers."""

    makes = PageOfMessages
    conversation_id = Id(required=True)
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    before = Id()
    after = Id()

    @validates_schema
    def one_direction(self, data: dict[str, Any], **_: Any) -> None:
        if "before" in data and "after" in data:
            raise ValidationError("Give before or after, not both.", "after")


# --- conversations ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OneConversation:
    conversation_id: str


class OfConversation(Request):
    makes = OneConversation
    conversation_id = Id(required=True)


@dataclass(frozen=True, slots=True)
class NewConversation:
    type: str
    participant_ids: tuple[str, ...]
    name: str | None = None
    avatar_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class CreateConversation(Request):
    makes = NewConversation
    type = Text(required=True, validate=validate.OneOf(["direct", "group", "channel"]))
    participant_ids = _ids(MAX_PARTICIPANTS, required=True)
    name = _name()
    avatar_url = _url({"https", "http"}, allow_none=True)
    metadata = Metadata()


@dataclass(frozen=True, slots=True)
class ConversationEdit:
    """`changes` has only what was given: name, avatar_url, metadata."""

    conversation_id: str
    changes: Mapping[str, Any]


class EditConversation(Request):
    makes = ConversationEdit
    conversation_id = Id(required=True)
    name = _name()
    avatar_url = _url({"https", "http"}, allow_none=True)
    metadata = Metadata()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        conversation_id = data.pop("conversation_id")
        if not data:
            raise ValidationError("Give name, avatarUrl or metadata.", "name")
        return ConversationEdit(conversation_id, data)


@dataclass(frozen=True, slots=True)
class Peers:
    user_ids: tuple[str, ...]


class DirectWith(Request):
    makes = Peers
    user_id = Id(required=True)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        return Peers((data["user_id"],))


class PrivateWith(Request):
    makes = Peers
    user_ids = _ids(MAX_PARTICIPANTS, least=1, required=True)


@dataclass(frozen=True, slots=True)
class NewParticipants:
    conversation_id: str
    user_ids: tuple[str, ...]
    role: str = "member"


class AddParticipants(Request):
    makes = NewParticipants
    conversation_id = Id(required=True)
    user_ids = _ids(MAX_PARTICIPANTS, least=1, required=True)
    role = Text(validate=validate.OneOf(["admin", "member"]))


@dataclass(frozen=True, slots=True)
class RoleChange:
    conversation_id: str
    user_id: str
    role: str


class ChangeRole(Request):
    makes = RoleChange
    conversation_id = Id(required=True)
    user_id = Id(required=True)
    role = Text(required=True, validate=validate.OneOf(["owner", "admin", "member"]))


@dataclass(frozen=True, slots=True)
class OneParticipant:
    conversation_id: str
    user_id: str


class OfParticipant(Request):
    makes = OneParticipant
    conversation_id = Id(required=True)
    user_id = Id(required=True)


@dataclass(frozen=True, slots=True)
class PageOfConversations:
    limit: int = 50
    cursor: str | None = None


class ListConversations(Request):
    makes = PageOfConversations
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Id()


@dataclass(frozen=True, slots=True)
class ReadUpTo:
    conversation_id: str
    up_to_message_id: str | None = None


class ReadConversation(Request):
    makes = ReadUpTo
    conversation_id = Id(required=True)
    up_to_message_id = Id(allow_none=True)


# --- users and the rest -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UserSync:
    """`changes` has only what was given: name, avatar_url, status, metadata."""

    user_id: str
    changes: Mapping[str, Any]


class SyncUser(Request):
    makes = UserSync
    external_user_id = Id(required=True)
    name = _name()
    avatar_url = _url({"https", "http"}, allow_none=True)
    status = Text(validate=validate.OneOf(["active", "blocked"]))
    metadata = Metadata()

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        return UserSync(data.pop("external_user_id"), data)


@dataclass(frozen=True, slots=True)
class UserBatch:
    users: tuple[Any, ...]


class SyncUsers(Request):
    """The rows are parsed one by one: a bad one does not stop the rest."""

    makes = UserBatch
    users = Several(fields.Raw(allow_none=True), required=True, validate=validate.Length(1, 1000))


@dataclass(frozen=True, slots=True)
class OneUser:
    user_id: str


class OfUser(Request):
    makes = OneUser
    user_id = Id(required=True)


class OfExternalUser(Request):
    makes = OneUser
    external_user_id = Id(required=True)

    @post_load
    def make(self, data: dict[str, Any], **_: Any) -> Any:
        return OneUser(data["external_user_id"])


class PresenceOf(Request):
    makes = Peers
    user_ids = _ids(200, required=True)


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


class NoPayload(Request):
    makes = Nothing


@dataclass(frozen=True, slots=True)
class FreshToken:
    token: str = field(repr=False)


class RefreshToken(Request):
    makes = FreshToken
    token = Text(required=True, validate=validate.Length(1, 8192))
