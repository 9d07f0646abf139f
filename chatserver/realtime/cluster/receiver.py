"""Receives what the other nodes publish, and applies it to the rooms of this node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from ..rooms.update import RoomUpdate
from . import messages
from .confirmations import Confirmations
from .messages import KIND, NO_QUESTION, NODE, OFFSET, QUESTION, SUBJECT

if TYPE_CHECKING:
    from .cluster import Cluster

log = structlog.get_logger(__name__)

COMPLAIN_S = 10.0


class Hearing:
    def __init__(self, rooms: Cluster, node: str, confirmations: Confirmations) -> None:
        self._rooms = rooms
        self._sequencer = rooms.sequencer
        self._me = node.encode()
        self._confirmations = confirmations
        self._complain_at = 0.0
        self._kinds: dict[bytes, Callable[[str, bytes], None]] = {
            b"m": self._packet,
            b"s": self._update,
            b"u": self._update_of_users,
            b"e": self._event,
            b"g": self._signal,
            b"p": self._contact_events,
            b"y": self._answer,
        }

    def hear(self, channel: str, message: bytes) -> None:
        """What was said on a channel, also by this node itself."""
        try:
            if message[NODE] != self._me:
                self._kinds[message[KIND]](channel, message)
            elif message[QUESTION] != NO_QUESTION:
                # It is counted among those who hear.
                self._confirm(channel, message)
        except Exception:  # it is from a node of another version, or from nobody of ours
            if (at := time.monotonic()) >= self._complain_at:  # there may be many
                self._complain_at = at + COMPLAIN_S
                log.exception("what was said between the nodes is not understood", channel=channel)
            self._rooms.missed()

    def _packet(self, channel: str, message: bytes) -> None:
        room = channel[SUBJECT]
        offset, seq, packet = messages.decode_packet(message)
        if seq:
            self._rooms.on_remote_message(room, offset, seq)
        if room in self._sequencer:
            self._sequencer.offer(room, offset, RoomUpdate.of_packet(packet))

    def _update(self, channel: str, message: bytes) -> None:
        if (room := channel[SUBJECT]) in self._sequencer:
            self._sequencer.offer(room, *messages.decode_update(message))
        if message[QUESTION] != NO_QUESTION:
            self._confirm(channel, message)

    def _update_of_users(self, channel: str, message: bytes) -> None:
        self._rooms.told_of_users(*messages.decode_update_of_users(message))

    def _event(self, channel: str, message: bytes) -> None:
        self._rooms.deliver_notice(channel[SUBJECT], *messages.decode_event(message))

    def _signal(self, channel: str, message: bytes) -> None:
        self._rooms.handle(*messages.decode_signal(message))
        if message[QUESTION] != NO_QUESTION:
            self._confirm(channel, message)

    def _contact_events(self, channel: str, message: bytes) -> None:
        for rooms, name, payload, user_id, number in messages.decode_contact_events(message):
            self._rooms.deliver_state(rooms, name, payload, user_id=user_id, number=number)

    def _answer(self, channel: str, message: bytes) -> None:
        self._confirmations.answered(messages.decode_answer(message))

    def _confirm(self, channel: str, message: bytes) -> None:
        """Answer what a message asks: of a change, when it has been applied here."""
        node, question = message[NODE].decode(), message[QUESTION]
        if message[KIND] == b"s":
            room, offset = channel[SUBJECT], int(message[OFFSET], 16)
            if self._rooms.reached(room, offset) is False:
                self._confirmations.owe(room, offset, node, question)
                return
        self._confirmations.answer(node, question)
