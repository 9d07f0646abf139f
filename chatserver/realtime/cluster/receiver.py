"""Receives the messages of other nodes and applies them to the rooms of this node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import structlog

from ..engine.packet import Packet
from ..rooms.sequencer import Sequencer
from ..rooms.update import NewerVersion, RoomUpdate
from . import messages
from .confirmations import Confirmations
from .messages import KIND, NO_REQUEST, NODE, OFFSET, REQUEST, SUBJECT

log = structlog.get_logger(__name__)

LOG_EVERY_S = 10.0


class ReceivingRooms(Protocol):
    """The rooms of this node, to which messages are applied (see Cluster)."""

    sequencer: Sequencer

    def apply_for_users(self, room: str, offset: int, update: RoomUpdate) -> None: ...
    def deliver_notice(self, room: str, notice: str, packet: Packet) -> None: ...
    def deliver_own_notice(self, user_id: str, notice: str, packet: Packet) -> None: ...
    def deliver_state(
        self, rooms: Iterable[str], event: str, payload: Any, *, user_id: str, number: int
    ) -> None: ...
    def handle(self, kind: str, data: list[Any]) -> None: ...
    def reached(self, room: str, offset: int) -> bool | None: ...
    def missed(self) -> None: ...


class ClusterReceiver:
    """Applies the messages of all channels that this node subscribes to."""

    def __init__(self, rooms: ReceivingRooms, node: str, confirmations: Confirmations) -> None:
        self._rooms = rooms
        self._sequencer = rooms.sequencer
        self._me = node.encode()
        self._confirmations = confirmations
        self.unknown = 0
        """Messages that this node did not understand. It took each for a lost one."""
        self._log_again_at = 0.0
        self.on_message: Callable[[str, int, int], None] = lambda room, offset, seq: None
        """See Rooms.on_remote_message."""
        self._kinds: dict[bytes, Callable[[str, bytes], None]] = {
            b"m": self._packet,
            b"s": self._update,
            b"u": self._update_of_users,
            b"e": self._event,
            b"o": self._own_event,
            b"g": self._signal,
            b"p": self._contact_events,
            b"y": self._ack,
        }

    def receive(self, channel: str, message: bytes) -> None:
        """Apply a message of a channel. Redis delivers this node's own messages, too."""
        try:
            if message[NODE] != self._me:
                self._kinds[message[KIND]](channel, message)
            elif message[REQUEST] != NO_REQUEST:
                # Redis counts this node among the receivers of the request.
                self._acknowledge(channel, message)
        except Exception as error:  # the sender runs a newer version, or is not a node
            self.unknown += 1
            self._rooms.missed()
            if (at := time.monotonic()) < self._log_again_at:  # there may be many
                return
            self._log_again_at = at + LOG_EVERY_S
            if isinstance(error, NewerVersion) or message[KIND] not in self._kinds:
                kind = message[KIND].decode("latin-1")
                log.warning("ignored a message of a newer version", kind=kind, unknown=str(error))
            else:
                log.exception("a message on the bus cannot be understood", channel=channel)

    def _packet(self, channel: str, message: bytes) -> None:
        room = channel[SUBJECT]
        offset, seq, packet = messages.decode_packet(message)
        if seq:
            self.on_message(room, offset, seq)
        if room in self._sequencer:
            self._sequencer.offer(room, offset, RoomUpdate.of_packet(packet))

    def _update(self, channel: str, message: bytes) -> None:
        if (room := channel[SUBJECT]) in self._sequencer:
            self._sequencer.offer(room, *messages.decode_update(message))
        if message[REQUEST] != NO_REQUEST:
            self._acknowledge(channel, message)

    def _update_of_users(self, channel: str, message: bytes) -> None:
        self._rooms.apply_for_users(*messages.decode_update_of_users(message))

    def _event(self, channel: str, message: bytes) -> None:
        self._rooms.deliver_notice(channel[SUBJECT], *messages.decode_event(message))

    def _own_event(self, channel: str, message: bytes) -> None:
        self._rooms.deliver_own_notice(channel[SUBJECT], *messages.decode_event(message))

    def _signal(self, channel: str, message: bytes) -> None:
        self._rooms.handle(*messages.decode_signal(message))
        if message[REQUEST] != NO_REQUEST:
            self._acknowledge(channel, message)

    def _contact_events(self, channel: str, message: bytes) -> None:
        for rooms, name, payload, user_id, number in messages.decode_contact_events(message):
            self._rooms.deliver_state(rooms, name, payload, user_id=user_id, number=number)

    def _ack(self, channel: str, message: bytes) -> None:
        self._confirmations.acknowledged(messages.decode_ack(message))

    def _acknowledge(self, channel: str, message: bytes) -> None:
        """Acknowledge a request. An update is acknowledged when it has been applied here."""
        node, request = message[NODE].decode(), message[REQUEST]
        if message[KIND] == b"s":
            room, offset = channel[SUBJECT], int(message[OFFSET], 16)
            if self._rooms.reached(room, offset) is False:
                self._confirmations.ack_when_reached(room, offset, node, request)
                return
        self._confirmations.acknowledge(node, request)
