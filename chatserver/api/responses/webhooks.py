"""The payloads of webhooks, and the responses of the outbox's admin API."""

from __future__ import annotations

from collections.abc import Mapping

from marshmallow import fields

from ...chat.membership import ROLES
from ...outbox.event import TYPES
from ..requests.schema import Cursor, Id, Text
from ..requests.webhooks import EndpointName
from .conversations import Conversation, ParticipantChanged
from .messages import MessageDeleted, MessageResponse, ReactionChanged
from .response import Answer, Time, each, number, one_of
from .users import Offline, Online

# --- webhooks -----------------------------------------------------------------------------------


class MessageDeletedBy(MessageDeleted):
    scope = one_of("everyone")
    deleted_by = Id()


class ConversationDeleted(Answer):
    conversation_id = Id()
    deleted_by = Id()
    deleted_at = Time()


class ParticipantAdded(ParticipantChanged):
    role = one_of(*ROLES)


class ParticipantRemoved(ParticipantChanged):
    removed_by = Id()


class ReactionChangedAt(ReactionChanged):
    timestamp = Time()


DATA: Mapping[str, type[Answer]] = {
    "message.created": MessageResponse,
    "message.updated": MessageResponse,
    "message.deleted": MessageDeletedBy,
    "conversation.created": Conversation,
    "conversation.deleted": ConversationDeleted,
    "participant.added": ParticipantAdded,
    "participant.removed": ParticipantRemoved,
    "reaction.added": ReactionChangedAt,
    "reaction.removed": ReactionChangedAt,
    "user.online": Online,
    "user.offline": Offline,
}
"""The `data` of each type of event."""

# --- the admin API ------------------------------------------------------------------------------


class FailingLane(Answer):
    """A conversation or user whose next event has failed so far."""

    key = Id()
    event_id = Id()
    timestamp = Time()
    since = Time()
    attempts = number(1)
    next_at = Time()
    error = Text()


class EndpointStatus(Answer):
    """`lag`: the age of the oldest waiting event, in seconds. `url` and `types` are null if the endpoint is
    no longer configured."""

    name = EndpointName()
    configured = fields.Boolean()
    url = Text(allow_none=True)
    types = fields.List(one_of(*TYPES), allow_none=True)
    pending = number()
    oldest_pending_at = Time(allow_none=True)
    lag = fields.Float()
    failing = number()
    worst = each(FailingLane)
    dead = number()


class RelayResponse(Answer):
    """`until`: the time at which its lease ends."""

    id = Id()
    partitions = number()
    until = Time()


class WebhookStatus(Answer):
    """`countedUpTo`: the number at which counting stops. A count that has reached it may be higher."""

    endpoints = each(EndpointStatus)
    counted_up_to = number()
    relays = each(RelayResponse)


class DeadLetter(Answer):
    """An event that was given up. A presence event has `userId` instead of `conversationId`."""

    sometimes = frozenset({"conversation_id", "user_id"})
    id = Id()
    type = one_of(*TYPES)
    endpoint = EndpointName()
    conversation_id = Id()
    user_id = Id()
    timestamp = Time()
    died_at = Time()
    attempts = number(1)
    error = Text()


class DeadLetterPage(Answer):
    """Newest first. `nextCursor` is null on the last page."""

    items = each(DeadLetter)
    next_cursor = Cursor(allow_none=True)


class ReplayedResponse(Answer):
    """`gone`: dead letters whose event is no longer stored. Unless `nextCursor` is null, repeat the request
    with it."""

    replayed = number()
    gone = number()
    next_cursor = Cursor(allow_none=True)


class Dropped(Answer):
    """If `more` is true, repeat the request for the rest."""

    dropped = number()
    more = fields.Boolean()
