"""Schemas of payloads: the types of their fields, and the parsing of a payload, once, into a frozen value.

`json_schema` of a type describes its check, as far as JSON Schema can. The API reference is generated from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import regex
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from ... import json_codec
from ...chat.text import shows_nothing
from ...errors import ValidationFailed

MAX_ID = 128
MAX_NAME = 200
MAX_FILE_NAME = 255
"""The limit of common file systems."""
MAX_MIME_TYPE = 255
"""RFC 6838, section 4.2: 127 characters for the type and for the subtype."""
MAX_URL = 4096
"""A signed URL of a storage service can have 3,000 characters."""
MAX_METADATA_BYTES = 2048
MAX_ATTACHMENTS = 10
MAX_MENTIONS = 50
MAX_PARTICIPANTS = 1000
"""Users named in one request; a conversation may have more."""
MAX_PAGE = 200


class Request(Schema):
    """The schema of a payload, which becomes `makes`. Keys are camelCase on the wire, snake_case inside."""

    makes: ClassVar[type]
    recurs: ClassVar[bool] = False
    """True if clients send identical payloads again and again, so that the parsed value may be cached."""
    json_schema: ClassVar[Mapping[str, Any]] = {}
    """Rules between the fields, as JSON Schema."""

    class Meta:
        unknown = RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        field_obj.data_key = camel(field_name)

    def make(self, data: dict[str, Any]) -> Any:
        """Returns the frozen value of valid data. Raises ValidationFailed."""
        # Not as marshmallow's `post_load`, which costs a tenth of the time of parsing.
        return self.makes(**data)


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(map(str.title, rest))


@cache
def _schema(kind: type[Request]) -> Request:
    return kind()


def parse(kind: type[Request], data: Any) -> Any:
    """Returns the frozen value of `data` (decoded JSON).

    Raises ValidationFailed. Its details map each invalid field to the reasons.
    """
    try:
        schema = _schema(kind)
        return schema.make(schema.load(data))
    except ValidationError as error:
        raise ValidationFailed(details=_flat(error.messages_dict)) from None


def _flat(messages: Mapping[Any, Any], path: str = "") -> dict[str, list[str]]:
    flat: dict[str, list[str]] = {}
    for key, value in messages.items():
        where = path if key == "_schema" and path else f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            flat.update(_flat(value, where))
        else:
            flat[printable(where)] = [str(reason) for reason in value]
    return flat


def ids_of(request: Any) -> dict[str, str]:
    """Returns the ids of the request's conversation and message, for the log."""
    ids = {name: getattr(request, name, None) for name in ("conversation_id", "message_id")}
    return {name: value for name, value in ids.items() if value is not None}


def printable(text: str) -> str:
    """Makes a caller's text safe to send back: at most 100 characters, and valid UTF-8."""
    return text[:100].encode("utf-8", "replace").decode()


# --- the types of fields ------------------------------------------------------------------------


class Text(fields.String):
    """A string of valid Unicode. A lone surrogate is refused, because UTF-8 cannot encode it."""

    json_schema: ClassVar[Mapping[str, Any]] = {}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if type(value) is not str:
            raise self.make_error("invalid")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValidationError("Must be valid Unicode, without lone surrogates.") from None
        return value


class Id(Text):
    """An identifier: 1..128 printable characters."""

    longest: ClassVar[int] = MAX_ID
    json_schema: ClassVar[Mapping[str, Any]] = {
        "minLength": 1,
        "maxLength": MAX_ID,
        "pattern": r"^[^\u0000-\u001f\u007f]*$",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not 0 < len(text) <= self.longest:
            raise ValidationError(f"Must have 1 to {self.longest} characters.")
        if not text.isprintable():
            raise ValidationError("Must have printable characters only.")
        return text


class Cursor(Id):
    """The `nextCursor` of a page: it contains an id, and so is longer than one."""

    longest = 2 * MAX_ID
    json_schema: ClassVar[Mapping[str, Any]] = {**Id.json_schema, "maxLength": longest}


class Integer(fields.Integer):
    """A whole number given as a JSON number. As in JSON Schema, 2.0 is one."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(low, high), **kwargs)

    def _validated(self, value: Any) -> int:
        whole = isinstance(value, float) and value.is_integer()
        return super()._validated(int(value) if whole else value)


class Metadata(fields.Field[Mapping[str, Any]]):
    """A flat object of strings, finite numbers, booleans and nulls, at most 2 KiB of JSON."""

    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        "description": f"A flat object of at most {MAX_METADATA_BYTES} bytes of JSON.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise ValidationError("Must be an object.")
        for key, item in value.items():
            if isinstance(item, float) and not math.isfinite(item):
                raise ValidationError(f"{key!r} is not a finite number.")
            if item is not None and not isinstance(item, (str, int, float, bool)):
                raise ValidationError("Must be flat: strings, numbers, booleans and nulls only.")
        try:
            size = len(json_codec.encode(value))
        except TypeError:
            raise ValidationError(
                "Must not have lone surrogates, or numbers beyond 64 bits."
            ) from None
        if size > MAX_METADATA_BYTES:
            raise ValidationError(f"Must be at most {MAX_METADATA_BYTES} bytes of JSON.")
        return value


_EMOJI = regex.compile(
    r"(?=.{1,32}\Z)(?=.*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3])\X"
    r"|:[A-Za-z0-9_+\-]{1,30}:(:skin-tone-[1-6]:)?"
)


class Emoji(Text):
    """One emoji (a single grapheme), or a `:shortcode:`, at most 32 characters. A shortcode may have a tone."""

    json_schema: ClassVar[Mapping[str, Any]] = {
        "minLength": 1,
        "maxLength": 32 + len(":skin-tone-3:"),
        "description": "One emoji, or a `:shortcode:`, at most 32 characters; also `:shortcode::skin-tone-3:`.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not _EMOJI.fullmatch(text):
            raise ValidationError("Must be one emoji or a :shortcode:, at most 32 characters.")
        return text


class ListField(fields.List[Any]):
    """A list, parsed into a tuple, so that payloads are immutable."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        return tuple(super()._deserialize(value, attr, data, **kwargs))


class WebUrl(Text):
    """An absolute URL with one of `schemes`."""

    def __init__(self, schemes: set[str], **kwargs: Any) -> None:
        self.schemes = sorted(schemes)
        described = {
            "pattern": rf"^({'|'.join(self.schemes)})://\S+$",
            "description": f"A URL ({' or '.join(self.schemes)}).",
        }
        super().__init__(validate=validate.Length(max=MAX_URL), metadata=described, **kwargs)
        self._check = validate.URL(schemes=schemes, require_tld=False)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        # marshmallow refuses an underscore in a host name, but buckets of storage services have them.
        self._check(text.replace("_", "x"))
        return text


def id_list(limit: int, minimum: int = 0, **kwargs: Any) -> ListField:
    return ListField(Id(), validate=validate.Length(min=minimum, max=limit), **kwargs)


def name_field() -> Text:
    return Text(validate=[validate.Length(1, MAX_NAME), visible], allow_none=True)


def visible(text: str) -> None:
    if shows_nothing(text):
        raise ValidationError("Must have a visible character.")


def one_at_least(*keys: str) -> dict[str, Any]:
    """Returns the JSON Schema rule that at least one of `keys` is present.

    Not as `anyOf`: code generators take that for a choice of types, and leave the keys out.
    """
    *others, last = keys
    none = {"not": {"anyOf": [{"required": [key]} for key in others]}}
    return {"if": none, "then": {"required": [last]}}
