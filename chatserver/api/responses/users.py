"""Users, presence and the connection itself, as callers see them."""

from __future__ import annotations

from marshmallow import fields

from ..requests.schema import Cursor, Id, Metadata, Text, WebUrl, name_field
from .response import Answer, ServerEvent, Time, each, ids, number, one_of


class User(Answer):
    called = "the user"
    external_user_id = Id()
    name = name_field()
    avatar_url = WebUrl({"https", "http"}, allow_none=True)
    status = one_of("active", "blocked", "deleted")
    metadata = Metadata()
    last_seen = Time(allow_none=True)
    created_at = Time()
    updated_at = Time()


class Error(Answer):
    """The shape of every error."""

    sometimes = frozenset({"details"})
    code = Text()
    message = Text()
    details = fields.Dict()
    timestamp = Time()


class FailedRow(Answer):
    """`index`: the position of the row in the request, from 0."""

    index = number()
    error = fields.Nested(Error)


class BatchReport(Answer):
    created = number()
    updated = number()
    failed = each(FailedRow)


class PresenceResponse(Answer):
    user_id = Id()
    status = one_of("online", "offline")
    last_seen = Time(allow_none=True)


class Presences(Answer):
    items = each(PresenceResponse)


class PresencePage(Answer):
    """Online users first. `nextCursor` is null on the last page. `onlineCount`: all participants who are online."""

    items = each(PresenceResponse)
    next_cursor = Cursor(allow_none=True)
    online_count = number()


class Now(Answer):
    timestamp = Time()


class FreshUntil(Answer):
    expires_at = Time()


# --- events to sockets --------------------------------------------------------------------------


class Connected(Answer):
    """`rooms`: the ids of the conversations whose events the socket receives. `roomsTruncated`, only when true: the
    user has more than 5,000, and these were active last; `room:join` joins another."""

    sometimes = frozenset({"rooms_truncated"})

    user_id = Id()
    socket_id = Id()
    rooms = ids()
    rooms_truncated = fields.Boolean()
    timestamp = Time()


class FailedResponse(Error):
    """The shape of every error. `event`: the name of the event that failed, if an event failed."""

    sometimes = frozenset({"details", "event"})
    event = Text()


class Typing(Answer):
    conversation_id = Id()
    user_id = Id()
    type = one_of("typing")
    is_active = fields.Boolean()
    timestamp = Time()


class Recording(Typing):
    type = one_of("recording")


class Online(Answer):
    user_id = Id()
    timestamp = Time()


class Offline(Answer):
    user_id = Id()
    last_seen = Time()
    timestamp = Time()


CONNECTION_EVENTS = (
    ServerEvent("connected", Connected, "this socket, once it is in its rooms"),
    ServerEvent("error", FailedResponse, "this socket"),
    ServerEvent("pong", Now, "this socket, if it gave no callback"),
)
"""The events that a socket receives about itself."""

_OTHERS = "the conversation except the sending socket"
_CONTACTS = (
    "all users who share a conversation with the user that is not large, and sockets that subscribed;"
    " each socket once"
)

SERVER_EVENTS = (
    ServerEvent("user:typing", Typing, _OTHERS),
    ServerEvent("user:recording", Recording, _OTHERS),
    ServerEvent("user:online", Online, _CONTACTS),
    ServerEvent("user:offline", Offline, _CONTACTS),
)
"""The events that sockets receive about users."""
