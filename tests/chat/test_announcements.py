"""The effects of log entries on rooms."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chatserver.chat.announcements import describe
from chatserver.chat.log.entry import Entry
from chatserver.chat.message import Message
from chatserver.realtime.rooms.update import RoomUpdate

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("fields", [{"messageId": "c1-00000001"}, {}], ids=["message", "room"])
def test_an_entry_of_a_newer_version_has_no_effect(fields: dict[str, str]) -> None:
    """Otherwise a gap with such an entry could not be filled, and the room would skip everything in it."""
    doc = {"_id": "c1-00000002", "conversationId": "c1", "kind": "of a newer version", "at": AT}
    message = Message({"_id": "c1-00000001", "conversationId": "c1", "seq": 1, "rev": 1})
    update = RoomUpdate()
    describe(update, Entry({**doc, "lastRev": 2, **fields}, message if fields else None))
    assert update.encode() == RoomUpdate().encode()


def test_nodes_know_that_a_conversation_has_ended_before_its_room_is_empty() -> None:
    """Its participants are still in the database, and would count as acquainted."""
    doc = {"_id": "c1-00000002", "conversationId": "c1", "kind": "end", "at": AT}
    update = RoomUpdate()
    describe(update, Entry({**doc, "hasParticipants": True}, None))
    assert [effect[0] for effect in update._effects] == ["signal", "dissolve"]
