"""Requests of operators about webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate, validates_schema

from ...outbox.admin.admin import OneEndpoint, PageOfDeadLetters
from ...outbox.admin.search import Selection
from ...outbox.event import TYPES
from .schema import MAX_PAGE, Cursor, Id, Request, Text, id_list, one_at_least


class Moment(Text):
    """A time in ISO 8601 with a time zone. It is converted to UTC."""

    json_schema: ClassVar[Mapping[str, Any]] = {"format": "date-time"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError(text)
            return moment.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            raise ValidationError("Must be a time such as 2026-11-21T09:30:00.000Z.") from None


class Flag(fields.Boolean):
    """A JSON boolean: not 1, not "yes"."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if type(value) is not bool:
            raise self.make_error("invalid", input=value)
        return value


class EndpointName(Text):
    """The name of an endpoint, configured or not."""

    json_schema: ClassVar[Mapping[str, Any]] = {"pattern": "^[a-z0-9-]{1,32}$"}

    def __init__(self, **kwargs: Any) -> None:
        check = validate.Regexp(
            r"[a-z0-9-]{1,32}\Z", error="Must be 1 to 32 characters of a-z, 0-9 and -."
        )
        super().__init__(validate=check, **kwargs)


class EventType(Text):
    """One of the eleven types of events."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            validate=validate.OneOf(TYPES, error="Must be one of {choices}."), **kwargs
        )


class ListDeadLetters(Request):
    makes = PageOfDeadLetters
    endpoint = EndpointName()
    type = EventType()
    conversation_id = Id()
    limit = fields.Integer(validate=validate.Range(1, MAX_PAGE))
    cursor = Cursor()


class Replay(Request):
    makes = Selection
    json_schema: ClassVar[Mapping[str, Any]] = {
        **one_at_least("ids", "since", "type", "conversationId", "dead"),
        "dependentRequired": {"until": ["since"]},
    }
    ids = id_list(MAX_PAGE, minimum=1)
    since = Moment()
    until = Moment()
    type = EventType()
    conversation_id = Id()
    dead = Flag()
    endpoint = EndpointName()
    cursor = Cursor()

    @validates_schema(skip_on_field_errors=True)
    def selects(self, data: Mapping[str, Any], **_: Any) -> None:
        by_rule = [key for key in ("since", "until", "type", "conversation_id") if key in data]
        if "ids" in data and by_rule:
            raise ValidationError(
                "Give either ids, or since, until, type or conversationId, not both.", "ids"
            )
        if "until" in data and "since" not in data:
            raise ValidationError("Needs since.", "until")
        if not (by_rule or "ids" in data or data.get("dead")):
            raise ValidationError(
                "Give at least one of ids, since, type, conversationId and dead.", "ids"
            )


class OfEndpoint(Request):
    makes = OneEndpoint
    endpoint = EndpointName(required=True)
