"""Metrics of the parts around the chat: sockets, rooms, the bus and the process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .. import __version__
from ..observability.loop_lag import Lag
from ..observability.metrics import Families, Histogram
from ..realtime import RealtimeServer
from ..realtime.bus import Bus
from ..realtime.cluster import Cluster
from ..realtime.rooms.rooms import Rooms
from ..settings import Settings

if TYPE_CHECKING:
    from ..observability.tracing import Tracing


def watch_sockets(metrics: Families, server: RealtimeServer, delivery: Histogram) -> None:
    engine = server.eio
    server.watch(metrics.memory)
    metrics.gauges(
        "chat_connections", "Connected sockets, by transport.", "transport", engine.by_transport
    )
    metrics.counters(
        "chat_connections_closed_total",
        "Closed sockets, by reason.",
        "reason",
        lambda: engine.closings,
    )
    metrics.counter(
        "chat_fleeting_dropped_total",
        "Typing and presence events that were not sent to slow sockets.",
        lambda: engine.spared,
    )
    metrics.histogram(
        "chat_delivery_seconds",
        "Time from a commit on this node, or from receiving one of another node, to the write to a socket.",
        delivery,
    )


def watch_rooms(metrics: Families, rooms: Rooms) -> None:
    rooms.watch(metrics.memory)
    metrics.gauge("chat_users", "Users connected to this node.", lambda: rooms.users)
    metrics.gauge(
        "chat_rooms", "Conversations with members connected to this node.", lambda: rooms.hosted
    )
    metrics.gauge(
        "chat_rooms_lacking",
        "Conversations that wait for a missing change, from another node or from MongoDB.",
        lambda: rooms.sequencer.lacking,
    )
    metrics.counter(
        "chat_room_readings_total",
        "How often changes of a conversation were read from MongoDB because they did not arrive.",
        lambda: rooms.sequencer.readings,
    )


def watch_bus(metrics: Families, bus: Bus, cluster: Cluster, round_trip: Histogram) -> None:
    bus.watch(metrics.gauge, metrics.counter, metrics.memory)
    metrics.counter(
        "chat_bus_unknown_total",
        "Messages of other nodes that this node did not understand, and took for lost ones.",
        lambda: cluster.receiver.unknown,
    )
    metrics.gauge(
        "chat_catching_up",
        "1 while this node catches up on changes that it may have missed.",
        lambda: float(not cluster.in_sync),
    )
    metrics.histogram(
        "chat_bus_round_trip_seconds",
        "Time from publishing a message to receiving it, through Redis and back to this node.",
        round_trip,
    )


def watch_process(metrics: Families, prefix: str) -> Lag:
    """Watches the process until the returned Lag is closed."""
    late = Histogram()
    metrics.histogram(
        f"{prefix}_loop_lag_seconds", "Event loop lag, measured ten times a second.", late
    )
    metrics.gauge(
        f"{prefix}_tasks",
        "Tasks of the event loop, of which a few run as long as the process.",
        lambda: len(asyncio.all_tasks()),
    )
    metrics.gauges(
        f"{prefix}_build_info",
        "1, labelled with the version.",
        "version",
        lambda: {__version__: 1.0},
    )
    return Lag(late.observe)


def begin_tracing(settings: Settings, service: str, instance: str) -> Tracing | None:
    """Returns None if tracing is off, without importing OpenTelemetry."""
    if not settings.tracing:
        return None
    from ..observability.tracing import Tracing  # noqa: PLC0415

    return Tracing(service, instance)
