"""Builds every part below the doors: the chat, its storage, its rooms, and the bus between nodes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from .. import tasks
from ..chat.announcements import Announcements
from ..chat.catch_up.log_reader import LogReader
from ..chat.catch_up.memberships import MembershipCatchUp
from ..chat.catch_up.notices import NoticeCatchUp
from ..chat.chat import Chat
from ..chat.conversations import Conversations
from ..chat.deletion import ConversationDeletion
from ..chat.log.log import Log
from ..chat.membership import Members
from ..chat.messages import Messages
from ..chat.participants import Participants
from ..chat.presence.node_leases import Nodes
from ..chat.presence.presence import Presence
from ..chat.presence.transitions import Transitions
from ..chat.reactions import Reactions
from ..chat.read_state.receipts import Receipts
from ..chat.read_state.unread import Unread
from ..chat.recency import Recency
from ..chat.typing_indicators import Activity
from ..chat.users import Users
from ..chat.views import Views
from ..mongo import Mongo
from ..observability.metrics import Metrics
from ..outbox.admin.admin import OutboxAdmin
from ..outbox.endpoints import Routes
from ..outbox.outbox import Outbox
from ..realtime.bus import Bus
from ..realtime.cluster import Cluster
from ..realtime.rooms.rooms import Rooms
from ..settings import Settings
from .instrumentation import watch_bus, watch_rooms


async def build(
    stack: AsyncExitStack, settings: Settings, mongo: Mongo, node: str, metrics: Metrics
) -> tuple[Rooms, Chat]:
    """Builds and starts every part, in order. `stack` closes them in reverse.

    With REDIS_URL this process joins the other nodes.
    """
    nodes = Nodes(mongo, node, grace_s=settings.presence_grace_s)
    # Closed after the bus: when the lease ends, other nodes catch up on what the bus could not publish.
    stack.push_async_callback(nodes.close)
    recency = Recency(mongo)
    stack.push_async_callback(recency.close)
    await recency.repair()
    unread = Unread(mongo)
    views = Views(mongo, unread)
    log_reader = LogReader(mongo, views, recency)
    cluster = Cluster(log_reader, node) if settings.redis_url else None
    rooms = cluster or Rooms(log_reader)
    stack.push_async_callback(rooms.sequencer.close)
    # Closed after the log, so that its last commits are published.
    bus = _bus(stack, cluster, settings, metrics) if cluster else None
    members = Members(mongo, rooms)
    routes = Routes(settings.webhooks)
    changes = Log(
        mongo,
        Announcements(rooms, recency).tell,
        rooms.behind,
        lambda conversation_id, signal: rooms.signal(
            "turns",
            [conversation_id, signal],
            room=conversation_id if signal == "lost" else None,
        ),
        lambda: rooms.in_sync,
        routes,
    )
    rooms.on("turns", lambda signal: changes.on_signal(*signal))
    stack.push_async_callback(changes.close)

    outbox = Outbox(mongo, routes)
    users = Users(mongo, rooms, require_known=settings.auth_require_known_user)
    deletion = ConversationDeletion(mongo, changes, rooms)
    stack.push_async_callback(deletion.close)
    participants = Participants(mongo, changes, outbox, members, users, views, deletion, rooms)
    users.left = participants.leave_all
    conversations = Conversations(
        mongo, changes, outbox, members, participants, deletion, users, views, recency, rooms
    )
    messages = Messages(mongo, changes, members, max_chars=settings.message_max_chars)
    presence = Presence(
        mongo,
        members,
        nodes,
        Transitions(mongo, outbox, members, rooms),
        grace_s=settings.presence_grace_s,
    )
    nodes.inherit, nodes.begun = presence.take_over, presence.begun
    stack.push_async_callback(presence.close)
    await nodes.start()
    for watched in (changes, nodes):
        watched.watch(metrics)
    watch_rooms(metrics, rooms)
    if cluster and bus:
        cluster.on_remote_message = changes.on_remote_message
        cluster.catch_up_memberships = MembershipCatchUp(
            mongo, log_reader, users, views, cluster
        ).run
        cluster.catch_up_notices = NoticeCatchUp(mongo, members, cluster).run
        await _join(stack, cluster, bus, nodes)
    return rooms, Chat(
        users=users,
        members=members,
        conversations=conversations,
        participants=participants,
        messages=messages,
        reactions=Reactions(changes, members, messages),
        receipts=Receipts(mongo, changes, members, unread, rooms),
        presence=presence,
        activity=Activity(rooms, node=node, timeout_s=settings.typing_timeout_s),
        webhooks=OutboxAdmin(mongo, settings.webhooks),
    )


def _bus(stack: AsyncExitStack, cluster: Cluster, settings: Settings, metrics: Metrics) -> Bus:
    bus = Bus(
        settings.redis_url,
        prefix=settings.redis_prefix,
        deliver=cluster.receiver.receive,
        missed=cluster.missed,
        lost=cluster.lost,
    )
    stack.push_async_callback(bus.close)
    cluster.connect(bus)
    watch_bus(metrics, bus, cluster)
    return bus


async def _join(stack: AsyncExitStack, cluster: Cluster, bus: Bus, nodes: Nodes) -> None:
    """Joins the other nodes.

    Leases make up for lost announcements: when a node's lease ends, or says that the node is cut off from
    the bus, the other nodes catch up on the changes that it could not announce.
    """
    nodes.on_gone(lambda _: cluster.missed())
    nodes.unheard = cluster.missed
    nodes.cut_off = lambda: not bus.up
    cluster.on_lost = nodes.hurry
    stack.push_async_callback(tasks.end, asyncio.create_task(cluster.keep_up()))
    await bus.start()
