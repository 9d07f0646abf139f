"""What webhooks say, and what the admin API of the outbox answers."""

from __future__ import annotations

from collections.abc import Mapping

from marshmallow import fields

from ...outbox.event import TYPES
from ..requests.fields import Id, Text
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
    role = one_of("owner", "admin", "member")


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
    """A conversation or user whose next event could not be delivered yet."""

    key = Id()
    event_id = Id()
    timestamp = Time()
    since = Time()
    attempts = number(1)
    next_at = Time()
    error = Text()


class EndpointStatus(Answer):
    """`lag`: seconds since the oldest event that waits. An endpoint that is configured no more has no
    `url` and `types`."""

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
    """`until`: how long its lease lasts."""

    id = Id()
    partitions = number()
    until = Time()


class WebhookStatus(Answer):
    """`countedUpTo`: where counting ends; a count that has reached it may be more."""

    endpoints = each(EndpointStatus)
    counted_up_to = number()
    relays = each(RelayResponse)


class DeadLetter(Answer):
    """An event that was given up; `userId` stands in place of `conversationId` for presence."""

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
    """The newest first; `nextCursor` is null on the last page."""

    items = each(DeadLetter)
    next_cursor = Id(allow_none=True)


class ReplayedResponse(Answer):
    """`gone`: dead letters whose event is not kept any more. With a `nextCursor`, ask again with it."""

    replayed = number()
    gone = number()
    next_cursor = Id(allow_none=True)


class Dropped(Answer):
    """With `more`, ask again for the rest."""

    dropped = number()
    more = fields.Boolean()
