"""The whole core as one object, for the doors."""

from __future__ import annotations

from dataclasses import dataclass

from .conversations import Conversations
from .jobs import Jobs
from .membership import Members
from .messages import Messages
from .participants import Participants
from .personal_data import PersonalData
from .presence.conversation_presence import ConversationPresence
from .presence.presence import Presence
from .presence.subscriptions import PresenceSubscriptions
from .reactions import Reactions
from .read_state.receipts import Receipts
from .typing_indicators import Activity
from .users import Users


@dataclass(frozen=True, slots=True)
class Chat:
    jobs: Jobs
    users: Users
    personal_data: PersonalData
    members: Members
    conversations: Conversations
    participants: Participants
    messages: Messages
    reactions: Reactions
    receipts: Receipts
    presence: Presence
    presence_subscriptions: PresenceSubscriptions
    conversation_presence: ConversationPresence
    activity: Activity
