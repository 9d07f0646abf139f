"""The bytes of messages between nodes. Nodes of two versions exchange them during a rolling update."""

from __future__ import annotations

from typing import Any

import pytest

from chatserver.realtime.cluster import messages
from chatserver.realtime.engine.packet import Packet
from chatserver.realtime.rooms.update import RoomUpdate

ME = b"0123456789abcdef"


BODY = b'[["admit",["bob"],null]]'
SAID: list[tuple[bytes, bytes]] = [
    (
        messages.encode_packet(ME, 258, 17, Packet(b'2["message:new",{}]')),
        b"m0123456789abcdef000000000000010200000011" + b'2["message:new",{}]',
    ),
    (messages.encode_update(ME, 258, BODY), b"s0123456789abcdef0000000000000102" + BODY),
    (messages.encode_update(ME, 258, BODY, 31), b"s0123456789abcdef0000001f00000102" + BODY),
    (
        messages.encode_update_of_users(ME, "talk", 258, BODY),
        b"u0123456789abcdef00000000talk\n00000102" + BODY,
    ),
    (
        messages.encode_event(ME, "5f", Packet(b'2["message:read",{}]')),
        b'e0123456789abcdef000000005f\n2["message:read",{}]',
    ),
    (
        messages.encode_own_event(ME, "5f", Packet(b'2["message:read",{}]')),
        b'o0123456789abcdef000000005f\n2["message:read",{}]',
    ),
    (
        messages.encode_signal(ME, "turns", "talk", 31),
        b'g0123456789abcdef0000001f["turns","talk"]',
    ),
    (
        messages.encode_contact_events(
            ME, [(["talk"], "presence:online", {"userId": "bob"}, "bob", 1)]
        ),
        b'p0123456789abcdef00000000[[["talk"],"presence:online",{"userId":"bob"},"bob",1]]',
    ),
    (messages.encode_ack(ME, b"0000001f"), b"y0123456789abcdef000000000000001f"),
]


def test_an_update_that_older_versions_do_not_know_is_one_that_they_cannot_read() -> None:
    small, large = RoomUpdate(), RoomUpdate()
    small.emit_to_each(["a", "b"], "hi", {})
    large.emit_to_each(list("abcdefghi"), "hi", {})
    assert small.encode() == b'[["emit_to","a","2[\\"hi\\",{}]"],["emit_to","b","2[\\"hi\\",{}]"]]'
    assert large.encode() == (
        b'{"effects":[["emit_to_each",["a","b","c","d","e","f","g","h","i"],"2[\\"hi\\",{}]"]]}'
    )
    for update in (small, large):
        assert RoomUpdate.decode(update.encode()).encode() == update.encode()


@pytest.mark.parametrize(("said", "expected"), SAID, ids=lambda value: value[:1].decode())
def test_messages_are_encoded_in_the_same_bytes(said: bytes, expected: bytes) -> None:
    assert said == expected
    assert said[messages.NODE] == ME


def test_messages_are_decoded() -> None:
    def read(kind: bytes) -> Any:
        decode = {
            b"m": messages.decode_packet,
            b"s": messages.decode_update,
            b"u": messages.decode_update_of_users,
            b"e": messages.decode_event,
            b"g": messages.decode_signal,
            b"p": messages.decode_contact_events,
            b"y": messages.decode_ack,
        }[kind]
        return decode(next(said for said, _ in SAID if said[messages.KIND] == kind))

    offset, seq, packet = read(b"m")
    assert (offset, seq, packet.payload) == (258, 17, b'2["message:new",{}]')
    offset, update = read(b"s")
    assert (offset, update.encode()) == (258, BODY)
    room, offset, update = read(b"u")
    assert (room, offset, update.encode()) == ("talk", 258, BODY)
    notice, packet = read(b"e")
    assert (notice, packet.payload) == ("5f", b'2["message:read",{}]')
    assert read(b"g") == ("turns", "talk")
    assert read(b"p") == [[["talk"], "presence:online", {"userId": "bob"}, "bob", 1]]
    assert read(b"y") == 31
