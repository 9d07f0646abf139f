"""A client that disconnects at any moment and syncs later ends up equal to one that stayed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.conversation_copy import CHANGES, Copy
from tests.support.database_proxy import Nodes
from tests.support.people import People, Person
from tests.support.raw import Wire, history

NAMES = ("alice", "bob", "carol")
KINDS = ("send", "send", "send", "edit", "react", "unreact", "delete", "hide")


@dataclass(frozen=True)
class Act:
    who: int
    kind: str
    which: int
    """Counted from the newest message."""
    emoji: str


acts = st.builds(
    Act, st.integers(0, 2), st.sampled_from(KINDS), st.integers(0, 6), st.sampled_from(["👍", "🎉"])
)
bursts = st.lists(st.lists(acts, min_size=1, max_size=6), max_size=6)
"""The acts of one burst are under way at the same time."""
limits = st.lists(st.integers(1, 5), min_size=1, max_size=4)


class Talk:
    """A conversation of three users, each with a device that is always connected."""

    def __init__(self, wires: list[Wire], talk: Any) -> None:
        self.wires = wires
        self.talk = talk
        self.messages: list[Any] = []

    async def play(self, several: list[list[Act]]) -> None:
        for burst in several:
            asked = [(act, await self._begin(act)) for act in burst]
            for act, answer in asked:
                if answer is None:
                    continue
                done = await answer
                assert done is not None
                # A user may edit a message that another user just deletes, or another user's message.
                assert done["ok"] or done["error"]["code"] in ("CONFLICT", "FORBIDDEN"), done
                if act.kind == "send":
                    self.messages.append(done["data"])

    async def _begin(self, act: Act) -> Any:
        wire = self.wires[act.who]
        if act.kind == "send":
            return await wire.say(self.talk, f"{act.emoji} {act.which}")
        if not self.messages:
            return None
        target = {"messageId": self.messages[max(-1 - act.which, -len(self.messages))]["id"]}
        event, more = {
            "edit": ("message:edit", {"content": f"edited {act.which} {act.emoji}"}),
            "react": ("reaction:add", {"emoji": act.emoji}),
            "unreact": ("reaction:remove", {"emoji": act.emoji}),
            "delete": ("message:delete", {}),
            "hide": ("message:delete", {"scope": "self"}),
        }[act.kind]
        return await wire.ask(event, target | more)

    def heard_by(self, wire: Wire) -> list[tuple[str, Any]]:
        events = [event for event in wire.heard if event[0] in CHANGES]
        return [event for event in events if event[1]["conversationId"] == self.talk["id"]]

    async def stayed(self, number: int) -> Copy:
        """The copy of a client that was connected all the time."""
        await self.wires[number].caught_up()
        copy = Copy()
        copy.hear(self.heard_by(self.wires[number]))
        return copy


async def begin(people: People, persons: list[Person], wires: list[Wire]) -> Talk:
    return Talk(wires, await persons[0].group(*persons[1:]))


async def sync(wire: Wire, copy: Copy, talk: Any, sizes: list[int], **position: Any) -> list[Any]:
    """Sync page by page from a position. Each page continues after the last message of the one before."""
    seen: list[Any] = []
    for turn in range(500):
        asked = {"conversationId": talk["id"], "limit": sizes[turn % len(sizes)], **position}
        page = await wire.do("messages:sync", asked)
        assert set(page) == {"conversationId", "messages", "hasMore", "lastSeq", "lastRev"}
        assert len(page["messages"]) <= asked["limit"]
        copy.take(page["messages"])
        seen += page["messages"]
        if not page["hasMore"]:
            copy.rev = max(copy.rev, page["lastRev"])
            return seen
        assert page["messages"], "hasMore, but nothing on this page to continue from"
        key, last = {
            "afterRev": ("afterRev", "rev"),
            "afterSeq": ("afterSeq", "seq"),
            "lastMessageId": ("lastMessageId", "id"),
        }[next(iter(position))]
        assert position[key] != page["messages"][-1][last], "the position does not move"
        position = {key: page["messages"][-1][last]}
    raise AssertionError("sync does not end")


def comparable(messages: list[Any]) -> list[Any]:
    """The messages, but of a deleted one only the fields that still matter."""
    return [
        {
            key: message[key]
            for key in ("id", "seq", "rev", "senderId", "content", "isDeleted", "deletedAt")
        }
        if message["isDeleted"]
        else message
        for message in messages
    ]


@given(st.integers(0, 2), st.integers(0, 30), bursts, bursts, bursts, limits)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_sync_by_rev_returns_every_message_and_every_change(
    people: People, who: int, cut: int, before: Any, meanwhile: Any, after: Any, sizes: list[int]
) -> None:
    persons = people(*NAMES)
    wires = await asyncio.gather(*[Wire.connect(person) for person in persons])
    talk = await begin(people, persons, wires)
    goer = await Wire.connect(persons[who])
    await talk.play(before)
    await goer.close()
    mine = Copy()
    # Events after the cut are lost on the way.
    mine.hear(talk.heard_by(goer)[:cut])

    await talk.play(meanwhile)
    # The client reconnects. It syncs while the others continue, and receives their events too.
    back = await Wire.connect(persons[who])
    playing = asyncio.create_task(talk.play(after))
    await sync(back, mine, talk.talk, sizes, afterRev=mine.rev)
    await playing
    await back.caught_up()
    mine.hear(talk.heard_by(back))
    stayed = await talk.stayed(who)
    assert comparable(mine.in_order) == comparable(stayed.in_order)
    assert comparable(await history(persons[who], talk.talk)) == comparable(stayed.in_order)
    assert await sync(back, mine, talk.talk, sizes, afterRev=max(mine.rev, stayed.rev)) == []

    # A client that was never connected before ends up equal, too.
    newcomer = Copy()
    await sync(back, newcomer, talk.talk, sizes, afterRev=0)
    assert comparable(newcomer.in_order) == comparable(stayed.in_order)
    await asyncio.gather(back.close(), *[wire.close() for wire in wires])


@given(st.integers(0, 2), bursts, bursts, limits)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_sync_by_message_or_seq_returns_every_newer_message_as_it_is_now(
    people: People, who: int, before: Any, meanwhile: Any, sizes: list[int]
) -> None:
    persons = people(*NAMES)
    wires = await asyncio.gather(*[Wire.connect(person) for person in persons])
    talk = await begin(people, persons, wires)
    await talk.play(before)
    known = await history(persons[who], talk.talk)
    await talk.play(meanwhile)
    stayed = await talk.stayed(who)
    newer = comparable(stayed.in_order[len(known) :])
    last = known[-1] if known else None
    by_seq = await sync(wires[who], Copy(), talk.talk, sizes, afterSeq=last["seq"] if last else 0)
    assert comparable(by_seq) == newer
    by_id = await sync(
        wires[who], Copy(), talk.talk, sizes, lastMessageId=last["id"] if last else None
    )
    assert comparable(by_id) == newer
    await asyncio.gather(*[wire.close() for wire in wires])


async def test_a_hidden_message_that_is_edited_while_its_reader_syncs_stays_hidden(
    two: Nodes, session: aiohttp.ClientSession
) -> None:
    alice, bob = People(two.near, session)("alice", "bob")
    desk, far = await alice.connect(), await bob.at(two.far).connect()
    talk = await alice.direct(bob)
    said = await desk.say(talk, "Before")
    await far.hears("message:new", lambda message: message["id"] == said["id"])
    await far.do("message:delete", {"messageId": said["id"], "scope": "self"})

    hold = two.proxy.hold("find", "log", said["id"])
    asked = {"conversationId": talk["id"], "afterRev": said["rev"]}
    syncing = asyncio.create_task(far.do("messages:sync", asked))
    await hold.arrived()
    edited = await desk.do("message:edit", {"messageId": said["id"], "content": "After"})
    hold.release()
    page = await syncing
    (seen,) = page["messages"]
    assert (seen["id"], seen["content"], seen["isDeleted"]) == (said["id"], "", True)
    assert seen["rev"] == edited["rev"]
