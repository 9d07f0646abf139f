"""Builds every part below the doors: the chat, its storage, its rooms, and the bus between nodes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

from .. import __version__, tasks
from ..chat.announcements import Announcements
from ..chat.catch_up.log_reader import LogReader
from ..chat.catch_up.memberships import MembershipCatchUp
from ..chat.catch_up.notices import NoticeCatchUp
from ..chat.chat import Chat
from ..chat.conversation_keys import ConversationKeys
from ..chat.conversations import Conversations
from ..chat.deletion import CONVERSATION_DELETION, ConversationDeletion
from ..chat.jobs import Jobs
from ..chat.large_conversations import LargeConversations
from ..chat.log.log import Log
from ..chat.membership import Members
from ..chat.memberships import Memberships
from ..chat.messages import Messages
from ..chat.participants import Participants
from ..chat.personal_data import USER_DELETION, PersonalData
from ..chat.presence.conversation_presence import ConversationPresence
from ..chat.presence.node_leases import Nodes
from ..chat.presence.presence import Presence
from ..chat.presence.subscriptions import PresenceSubscriptions
from ..chat.presence.transitions import Transitions
from ..chat.reaction_lists import REACTION_LISTS, ReactionLists
from ..chat.reactions import Reactions
from ..chat.read_state.receipts import Receipts
from ..chat.read_state.unread import Unread
from ..chat.recency import Recency
from ..chat.repairs import Repairs
from ..chat.rosters import Rosters
from ..chat.typing_indicators import Activity
from ..chat.users import UNSEEN, Users
from ..chat.views import Views
from ..mongo import Mongo
from ..mongo.schema import newest
from ..observability.metrics import Histogram, Metrics
from ..outbox.endpoints import Routes
from ..outbox.outbox import Outbox
from ..realtime.bus import Bus
from ..realtime.cluster import Cluster
from ..realtime.cluster.messages import PROTOCOL
from ..realtime.expiry_queue import ExpiryQueue
from ..realtime.rooms.rooms import Rooms
from ..realtime.rooms.update import RoomUpdate
from ..settings import Settings
from .instrumentation import watch_bus, watch_rooms

TICK_S = 0.001
"""How late an indicator of typing may time out. Event loops round their timers, and a timer that fires too early
would fire again and again."""


async def build(
    stack: AsyncExitStack, settings: Settings, mongo: Mongo, node: str, metrics: Metrics
) -> tuple[Rooms, Chat]:
    """Builds and starts every part, in order. `stack` closes them in reverse.

    With REDIS_URL this process joins the other nodes.
    """
    recency = Recency(mongo, large=settings.large_conversation)
    keys = ConversationKeys(mongo)
    repairs = Repairs(mongo)
    memberships = Memberships(mongo, recency, lambda: repairs.are_due)
    unread = Unread(mongo)
    rosters = Rosters(mongo, keys, recency, large=settings.large_conversation)
    views = Views(mongo, unread, rosters, memberships)
    log_reader = LogReader(mongo, views, recency, RoomUpdate)
    cluster = Cluster(log_reader, node) if settings.redis_url else None
    rooms = cluster or Rooms(log_reader)
    nodes = Nodes(
        mongo,
        rooms,
        node,
        grace_s=settings.presence_grace_s,
        version={"version": __version__, "protocol": PROTOCOL, "schema": newest()},
    )
    # Closed after the bus: when the lease ends, other nodes catch up on what the bus could not publish.
    stack.push_async_callback(nodes.close)
    stack.push_async_callback(recency.close)
    await recency.start()
    await repairs.start(recency.repair, keys.repair, memberships.repair)
    stack.push_async_callback(rooms.sequencer.close)
    # Closed after the log, so that its last commits are published.
    bus = _bus(stack, cluster, nodes, settings, metrics) if cluster else None
    jobs = Jobs(mongo)
    deletion = ConversationDeletion(mongo, keys, memberships, rooms, jobs)
    members = Members(mongo, memberships, rooms, recency, deletion.ended)
    large = LargeConversations(rosters, rooms)
    routes = Routes(settings.webhooks)
    announcements = Announcements(rooms, recency)
    changes = Log(
        mongo,
        rooms,
        members,
        announcements.tell,
        partial(log_reader.announce, rooms),
        routes,
    )
    stack.push_async_callback(changes.close)

    outbox = Outbox(mongo, routes)
    users = Users(mongo, memberships, rooms, require_known=settings.auth_require_known_user)
    participants = Participants(
        mongo, changes, outbox, members, memberships, users, views, rosters, deletion, rooms
    )
    conversations = Conversations(
        mongo,
        keys,
        changes,
        outbox,
        memberships,
        members,
        participants,
        deletion,
        users,
        views,
        recency,
        announcements,
    )
    reaction_lists = ReactionLists(mongo, jobs)
    messages = Messages(
        mongo, changes, members, reaction_lists, max_chars=settings.message_max_chars
    )
    presence = Presence(
        mongo,
        members,
        nodes,
        Transitions(mongo, outbox, members, rooms, large),
        grace_s=settings.presence_grace_s,
    )
    stack.push_async_callback(presence.close)
    await nodes.start(presence)
    repairing = partial(repairs.keep_up, nodes.are_older, nodes.lost)
    keeping_up = tasks.keep("repair what other nodes did not write", repairing)
    stack.push_async_callback(tasks.end, keeping_up)
    presence_subscriptions = PresenceSubscriptions(mongo, members, presence, rooms.watchers)
    stack.push_async_callback(presence_subscriptions.close)
    conversation_presence = ConversationPresence(
        mongo, members, presence, large=settings.large_conversation
    )
    stack.push_async_callback(conversation_presence.close)
    activity = Activity(
        rooms,
        large,
        lambda timed_out: ExpiryQueue(settings.typing_timeout_s, timed_out, slack_s=TICK_S),
        node=node,
    )
    receipts = Receipts(
        mongo, changes, members, unread, rooms, large, keep_days=settings.receipt_days
    )
    personal_data = PersonalData(mongo, memberships, users, participants, jobs)
    for part in (
        *(recency, members, large, changes, receipts, users, nodes, activity),
        *(presence, presence_subscriptions, conversation_presence, deletion, jobs),
    ):
        part.watch(metrics)
    watch_rooms(metrics, rooms)
    if cluster and bus:
        joined = MembershipCatchUp(mongo, log_reader, users, views, deletion, cluster)
        notices = NoticeCatchUp(mongo, members, large, cluster)
        keeping_up = tasks.keep("catch up", partial(cluster.keep_up, joined.run, notices.run))
        stack.push_async_callback(tasks.end, keeping_up)
        await bus.start()
    await deletion.start()
    stack.push_async_callback(jobs.close)
    # All kinds of jobs, with their steps.
    await jobs.start(
        {
            CONVERSATION_DELETION: deletion.clear,
            USER_DELETION: personal_data.erase_some,
            REACTION_LISTS: reaction_lists.clear,
            UNSEEN: users.forget_unseen,
        },
        recurring=[UNSEEN],
    )
    return rooms, Chat(
        jobs=jobs,
        users=users,
        personal_data=personal_data,
        members=members,
        conversations=conversations,
        participants=participants,
        messages=messages,
        reactions=Reactions(changes, members, messages, reaction_lists),
        receipts=receipts,
        presence=presence,
        presence_subscriptions=presence_subscriptions,
        conversation_presence=conversation_presence,
        activity=activity,
    )


def _bus(
    stack: AsyncExitStack, cluster: Cluster, nodes: Nodes, settings: Settings, metrics: Metrics
) -> Bus:
    def lost() -> None:
        # The next heartbeat says that this node is cut off.
        nodes.hurry()
        cluster.lost()

    round_trip = Histogram()
    bus = Bus(
        settings.redis_url,
        prefix=settings.redis_prefix,
        deliver=cluster.receiver.receive,
        missed=cluster.missed,
        lost=lost,
        went_round=round_trip.observe,
    )
    stack.push_async_callback(bus.close)
    cluster.connect(bus)
    watch_bus(metrics, bus, cluster, round_trip)
    return bus
