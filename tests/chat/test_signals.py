"""Signals between nodes. Nodes of two versions exchange them, so their bytes never change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chatserver.chat import signals
from chatserver.chat.signals import (
    Counted,
    Ended,
    Hidden,
    IndicatorChanged,
    ShutOut,
    Signal,
    TakesTurns,
)
from chatserver.realtime.cluster import messages

NODE = b"0123456789abcdef"
BYTES = [
    (ShutOut("bob", "This user is blocked."), b'["shut out",["bob","This user is blocked."]]'),
    (Ended("talk"), b'["ended",["talk"]]'),
    (Hidden("bob", "talk"), b'["hidden",["bob","talk"]]'),
    (
        Counted("talk", 201, True, "2026-11-30T12:00:00.000Z"),
        b'["counted",["talk",201,true,"2026-11-30T12:00:00.000Z"]]',
    ),
    (TakesTurns("talk", "lost"), b'["turns",["talk","lost"]]'),
    (
        IndicatorChanged(NODE.decode(), "talk", "bob", "typing", True),
        b'["activity",["0123456789abcdef","talk","bob","typing",true]]',
    ),
]


@pytest.mark.parametrize(("signal", "text"), BYTES, ids=[signal.kind for signal, _ in BYTES])
def test_a_signal_is_its_kind_and_its_fields(signal: Signal, text: bytes) -> None:
    message = messages.encode_signal(NODE, signal.kind, signal.data())
    assert message == b"g" + NODE + b"00000000" + text
    kind, data = messages.decode_signal(message)
    assert (kind, type(signal).of(data)) == (signal.kind, signal)


def test_every_kind_is_pinned_above() -> None:
    text = Path(signals.__file__).read_text()
    assert re.findall(r'^    kind = "(.+)"', text, re.MULTILINE) == [s.kind for s, _ in BYTES]
