"""Rooms whose members are connected to several nodes.

A node subscribes to the channels of the rooms that have members on it, and of the users who are connected to
it. Each update is published on the channel of its room, and every node applies updates in offset order. If
the bus loses a message or is down, nodes read what they lack from the log and the database: only speed
depends on the bus. messages.py describes the messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from ..bus.pubsub import PubSub
from ..bus.subscriptions import KEEP_FOR_S, Subscriptions, settled
from ..engine.packet import Packet, event
from ..memory import Memory
from ..rooms.arrival import Arrival
from ..rooms.rooms import Rooms
from ..rooms.sequencer import LogSource
from ..rooms.update import RoomUpdate, Signal
from ..rooms.watchers import Trusted
from ..server.fast_path import Connection
from . import messages
from .catch_up import CatchUp
from .caught_up import CaughtUp
from .confirmations import Confirmations
from .deduplication import LatestStates, SeenNotices
from .messages import ALL, of_node, of_room, of_user
from .receiver import ClusterReceiver

SINGLY = 8
"""An update that concerns at most this many users is published on the channel of each of them. A larger one is
published to all nodes."""


class Cluster(Rooms):
    """Rooms across all nodes. `node` is 16 hexadecimal characters that identify this run of this process."""

    def __init__(self, source: LogSource, node: str) -> None:
        self._confirmations = Confirmations(node)
        super().__init__(source, self._has_reached)
        self._caught_up = CaughtUp()
        self._notices = SeenNotices()
        self._states = LatestStates()
        self._catch_up = CatchUp(lambda: self._bus.up)
        self._source = source
        self._node = node
        self._me = node.encode()
        self._loop = asyncio.get_running_loop()
        self._bus: PubSub
        self._room_channels: Subscriptions[str]
        self._user_channels: Subscriptions[str]
        self._contact_events: list[messages.ContactEvent] = []
        self.receiver = ClusterReceiver(self, node, self._confirmations)
        """Gets every message that the bus delivers."""

    def connect(self, bus: PubSub) -> None:
        """Call this before the first client connects."""
        self._bus = self._confirmations.bus = bus
        self._room_channels = Subscriptions(
            bus, of_room, self._members.__contains__, keep_for_s=KEEP_FOR_S, left=self._left_room
        )
        self._user_channels = Subscriptions(
            bus, of_user, lambda user_id: self.sockets_of(user_id) > 0, keep_for_s=KEEP_FOR_S
        )
        bus.subscribe(ALL)
        bus.subscribe(of_node(self._node))
        self._catch_up.missed()

    def watch(self, memory: Memory) -> None:
        """Call this after `connect`."""
        super().watch(memory)
        memory("events about users", lambda: len(self._contact_events), None)
        for part in (self._caught_up, self._notices, self._states, self._confirmations):
            part.watch(memory)
        memory("channels of rooms", lambda: len(self._room_channels), None)
        memory("channels of users", lambda: len(self._user_channels), None)

    # --- catching up ----------------------------------------------------------------------------

    @property
    def in_sync(self) -> bool:
        return self._catch_up.in_sync

    @property
    def cut_off(self) -> bool:
        return not self._bus.up

    async def keep_up(
        self,
        memberships: Callable[[float], Awaitable[None]],
        notices: Callable[[float, float], Awaitable[bool]],
    ) -> None:
        """Catch up whenever this node may have missed something, until cancelled.

        A catch-up first calls `memberships(seconds)`, which reads from the database what changed for users in the
        last `seconds`. It then calls `notices(seconds, caught_up_at)`, which reads the notices of that time, and
        returns False if one must wait. When it is called, each room for which `caught_up(room)` is true has
        applied everything that the log had at `caught_up_at` (monotonic clock). Both may raise the error of the
        LogSource.
        """

        async def look(seconds: float) -> bool:
            try:
                await memberships(seconds)
                complete = await notices(seconds, await self._catch_up_rooms())
                # A room that still reads may have members who were removed.
                return complete and self._caught_up.by_all
            except self._source.unreadable:
                return False

        await self._catch_up.run(look, self.missed)

    def missed(self) -> None:
        for arrivals in self._arrivals.values():
            for arrival in arrivals:
                arrival.complete = False
        self._catch_up.missed()

    def lost(self) -> None:
        """Called when the bus goes down: this node can neither receive nor publish."""
        self._confirmations.fail_all()
        self.missed()

    async def _catch_up_rooms(self) -> float:
        """Have the rooms read what they lack. Returns the time of which they have everything."""
        rooms, caught_up_at = self.sequencer.rooms(), time.monotonic()
        positions = await self._source.positions(rooms)
        behind: dict[str, int] = {}
        for room in rooms:
            last, offset = self.sequencer.last(room), positions.get(room)
            # A room without a position was deleted: its last update is in the log.
            if last is not None and (offset is None or offset > last):
                self.sequencer.look(room, offset or 0)
                if offset is not None:
                    behind[room] = offset
        # Removed users must have left the rooms before notices are delivered.
        await self._caught_up.settled(behind)
        return caught_up_at

    def _has_reached(self, room: str, offset: int) -> None:
        self._caught_up.reached(room, offset)
        self._confirmations.reached(room, offset)

    def caught_up(self, room: str) -> bool:
        """True if this node has applied everything that the last catch-up found in the log of the room."""
        return room in self._caught_up

    def followed(self) -> list[str]:
        """Returns the rooms that this node follows."""
        return self.sequencer.rooms()

    def reached(self, room: str, offset: int) -> bool | None:
        """True if the room's updates up to `offset` are applied here. None if this node does not follow the
        room."""
        if room not in self.sequencer:
            return None
        last = self.sequencer.last(room)
        return last is not None and last >= offset

    def found(self, room: str, offset: int, update: RoomUpdate) -> None:
        """Apply an update about users that the catch-up found and that was not announced to this node."""
        if room in self.sequencer:
            update.apply(self, room)
        else:
            self._offer(room, offset, update)

    # --- users connect and disconnect -----------------------------------------------------------

    def arriving(self, user_id: str) -> Arrival:
        self._user_channels.subscribe(user_id)
        arrival = super().arriving(user_id)
        arrival.complete = self.in_sync
        return arrival

    async def reachable(self, user_id: str) -> None:
        subscribed = self._user_channels.subscribe(user_id)
        await settled([subscribed])
        if not subscribed.done():
            subscribed.add_done_callback(self._user_subscribed_late)

    def _user_subscribed_late(self, subscribed: asyncio.Future[bool]) -> None:
        """Catch up: updates that moved the user before the channel was subscribed were not received."""
        if not subscribed.cancelled() and subscribed.result():
            self.missed()

    async def prepare(self, rooms: Iterable[str]) -> None:
        rooms = list(rooms)
        for room in rooms:
            if room not in self._room_channels:
                self.sequencer.expect(room)
        subscriptions = {room: self._room_channels.subscribe(room) for room in rooms}
        await settled(subscriptions.values())
        for room, subscribed in subscriptions.items():
            if not subscribed.done():
                subscribed.add_done_callback(partial(self._room_subscribed_late, room))
        unknown = [room for room in rooms if self.sequencer.last(room) is None]
        if unknown:
            # Only after the channel is subscribed: an update that the log does not have yet will be received.
            positions = await self._source.positions(unknown)
            for room in unknown:
                if room in positions:
                    self.sequencer.begin(room, positions[room])
                elif self.sequencer.last(room) is None:
                    self._has_ended(room)

    def _has_ended(self, room: str) -> None:
        """Called when a room was deleted after the rooms of a connecting user were read."""
        for arrivals in self._arrivals.values():
            for arrival in arrivals:
                arrival.changes[room] = False
        self._room_channels.leave(room)

    def abort_arrival(self, user_id: str, arrival: Arrival) -> None:
        super().abort_arrival(user_id, arrival)
        self._user_channels.keep(user_id)

    def leave(self, connection: Connection) -> None:
        super().leave(connection)
        self._user_channels.keep(connection.user_id)

    def admit(self, room: str, user_ids: Iterable[str]) -> None:
        user_ids = list(user_ids)
        super().admit(room, user_ids)
        # Users who are still connecting must not miss later updates, so the room's channel is needed now.
        if any(user_id in self._arrivals for user_id in user_ids):
            self._host(room)

    def _host(self, room: str) -> None:
        if room not in self._room_channels:
            self._room_channels.subscribe(room).add_done_callback(
                partial(self._room_subscribed_late, room)
            )

    def _leave_off(self, room: str) -> None:
        self._room_channels.keep(room)

    def _room_subscribed_late(self, room: str, subscribed: asyncio.Future[bool]) -> None:
        """Read the log for updates that were published before the channel was subscribed."""
        if not subscribed.cancelled() and subscribed.result():
            self.sequencer.look(room)

    def follows(self, room: str) -> bool:
        return room in self._room_channels and self.sequencer.last(room) is not None

    def _left_room(self, room: str) -> None:
        self._unfollow(room)
        self._caught_up.left(room)
        self._confirmations.left(room)

    # --- updates --------------------------------------------------------------------------------

    def tell(self, room: str, offset: int, update: RoomUpdate, *, seq: int = 0) -> None:
        began = self.sequencer.last(room)
        self._offer(room, offset, update)
        if (packet := update.only) is not None:
            message = messages.encode_packet(self._me, offset, seq, packet)
            self._bus.publish(of_room(room), message)
            return
        body = update.encode()
        if not update.moves:
            self._bus.publish(of_room(room), messages.encode_update(self._me, offset, body))
            return
        self._see_to_skipped(room, offset, update, began)
        self._confirmations.move(room, offset, body)
        users = update.concerning()
        message = messages.encode_update_of_users(self._me, room, offset, body)
        for channel in [of_user(user_id) for user_id in users] if len(users) <= SINGLY else [ALL]:
            self._bus.publish(channel, message)

    def _offer(self, room: str, offset: int, update: RoomUpdate) -> None:
        if room in self.sequencer or update.only is None:
            self.sequencer.offer(room, offset, update)
            if room not in self._room_channels:
                self.sequencer.forget(room)

    def apply_for_users(self, room: str, offset: int, update: RoomUpdate) -> None:
        """Apply an update from the channel of a user. This node may not follow the room."""
        if any(self.sockets_of(user_id) for user_id in update.concerning()):
            # Users who are connecting may have read their rooms before this update was committed.
            update.mark(room, self._arrivals)
            began = self.sequencer.last(room)
            self._offer(room, offset, update)
            self._see_to_skipped(room, offset, update, began)

    def _see_to_skipped(
        self, room: str, offset: int, update: RoomUpdate, began: int | None
    ) -> None:
        """See to users who are connected here and whom the sequencer did not bring in.

        The sequencer skips the update if the room started on this node at a later offset: another socket of the
        user has just connected.
        """
        if room not in self.sequencer or (began is not None and began < offset):
            return
        lacking = {
            user_id
            for user_id in update.brought_in()
            if user_id in self._sockets and self.lacks(user_id, room)
        }
        if lacking and self.sequencer.last(room) == offset:
            update.bringing_in(lacking).apply(self, room)
        elif lacking:
            self.missed()

    def behind(self, room: str, after: int, known: int) -> None:
        if room in self.sequencer:
            self.sequencer.behind(room, after, known)

    async def confirmed(self, room: str, offset: int) -> None:
        await self._confirmations.moved(room, offset)

    # --- notices and signals, which have no offset -----------------------------------------------

    def emit(self, room: str, event_name: str, payload: Any, *, notice: str) -> None:
        packet = event(event_name, payload)
        self.deliver_notice(room, notice, packet)
        self._bus.publish(of_room(room), messages.encode_event(self._me, notice, packet))

    def emit_to_user(self, user_id: str, event_name: str, payload: Any, *, notice: str) -> None:
        packet = event(event_name, payload)
        self.deliver_own_notice(user_id, notice, packet)
        message = messages.encode_own_event(self._me, notice, packet)
        self._bus.publish(of_user(user_id), message)

    def deliver_notice(self, room: str, notice: str, packet: Packet) -> None:
        if self._notices.first(notice, time.monotonic(), self._catch_up.forgets):
            self.deliver(room, packet)

    def deliver_own_notice(self, user_id: str, notice: str, packet: Packet) -> None:
        if self._notices.first(notice, time.monotonic(), self._catch_up.forgets):
            self.deliver_to_user(user_id, packet)

    def was_delivered(self, notice: str) -> bool:
        return notice in self._notices

    def deliver_missed_notice(self, room: str, name: str, payload: Any, *, notice: str) -> None:
        """Deliver a notice that the catch-up found, unless it was delivered here already. It is volatile."""
        self.deliver_notice(room, notice, event(name, payload, volatile=True))

    def deliver_missed_own_notice(
        self, user_id: str, name: str, payload: Any, *, notice: str
    ) -> None:
        """The same for a notice that only the user's own sockets receive."""
        self.deliver_own_notice(user_id, notice, event(name, payload, volatile=True))

    def on_remote_message(self, handler: Callable[[str, int, int], None]) -> None:
        self.receiver.on_message = handler

    def signal(self, signal: Signal, *, room: str | None) -> None:
        channel = ALL if room is None else of_room(room)
        self._bus.publish(channel, messages.encode_signal(self._me, signal.kind, signal.data()))

    async def signalled(self, signal: Signal) -> None:
        def encode(number: int) -> bytes:
            return messages.encode_signal(self._me, signal.kind, signal.data(), number)

        await asyncio.wait([self._confirmations.request(self._bus, ALL, encode)])

    def emit_to_contacts(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str, number: int
    ) -> None:
        rooms = list(rooms)
        self.deliver_state(rooms, event, payload, user_id=user_id, number=number)
        if not self._contact_events:
            self._loop.call_soon(self._publish_contact_events)
        self._contact_events.append((rooms, event, payload, user_id, number))

    def knows(self, user_id: str, number: int) -> bool:
        """True if this event about the user, or a later one, was delivered to the user's contacts here."""
        return self._states.knows(user_id, number)

    def deliver_state(
        self,
        rooms: Iterable[str],
        event: str,
        payload: Any,
        *,
        user_id: str,
        number: int,
        trusted: Trusted = None,
    ) -> None:
        """Deliver an event about a user to the user's contacts here, unless this event or a later one was
        delivered already. Without `trusted` rooms, the node relies on its memory only while it is in sync."""
        if self._states.knows(user_id, number):
            return
        if not self._states.is_news(user_id, number, event):
            # The contacts missed the opposite event. But a socket that watches the user since may know of it.
            rooms = ()
        if trusted is None and not self.in_sync:
            trusted = ()
        self.deliver_to_contacts(rooms, event, payload, user_id=user_id, trusted=trusted)

    def _publish_contact_events(self) -> None:
        events, self._contact_events = self._contact_events, []
        self._bus.publish(ALL, messages.encode_contact_events(self._me, events))
