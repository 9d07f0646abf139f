"""A node remembers the notices that it has delivered."""

from __future__ import annotations

import pytest

from chatserver.realtime.cluster import deduplication
from chatserver.realtime.cluster.deduplication import LatestStates, SeenNotices


def test_a_notice_is_delivered_once_until_it_is_forgotten() -> None:
    notices = SeenNotices()
    assert notices.first("one", 10.0, forget=0.0)
    assert notices.first("two", 11.0, forget=0.0)
    assert not notices.first("one", 12.0, forget=0.0)
    assert notices.first("three", 13.0, forget=10.5)
    assert "one" not in notices
    assert not notices.first("two", 14.0, forget=10.5)


def test_the_number_of_remembered_notices_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplication, "MAX_REMEMBERED", 2)
    notices, states = SeenNotices(), LatestStates()
    for n, name in enumerate(("one", "two", "three")):
        assert notices.first(name, float(n), forget=0.0)
        assert states.is_news(name, 1, "online")
    assert [name in notices for name in ("one", "two", "three")] == [False, True, True]
    assert [states.knows(name, 1) for name in ("one", "two", "three")] == [False, True, True]


def test_only_a_later_and_different_state_of_a_user_is_news() -> None:
    states = LatestStates()
    assert states.is_news("bob", 3, "online")
    assert not states.is_news("bob", 3, "online")
    assert not states.is_news("bob", 2, "offline"), "it arrives too late"
    assert not states.is_news("bob", 5, "online"), "he left and came back"
    assert states.knows("bob", 5)
    assert not states.is_news("bob", 4, "offline")
    assert states.is_news("bob", 6, "offline")
    assert states.is_news("alice", 2, "offline")
