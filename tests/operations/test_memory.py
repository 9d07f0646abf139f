"""Everything that stays in memory is counted, and its count returns to its first value."""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, cast
from unittest.mock import Mock, create_autospec

import pytest
from socketio.exceptions import ConnectionError as ConnectionRefused

from chatserver.api.auth import Tokens
from chatserver.api.sockets.token_expiry import Expiry
from chatserver.chat.large_conversations import LargeConversations
from chatserver.chat.log.tail import REMOVED_S, ConversationTail
from chatserver.chat.membership import Members
from chatserver.chat.presence.transitions import BATCH, MAX_UNSURE, Sighting, Transitions
from chatserver.clock import now
from chatserver.mongo import DatabaseUnavailable
from chatserver.outbox.outbox import Outbox
from chatserver.realtime.bus.channels import Channels
from tests.conftest import Starter
from tests.support.exposition import scrape, stores
from tests.support.patience import slowness
from tests.support.people import Device, People, Person, token
from tests.support.raw import Wire
from tests.support.servers import JWT_SECRET, ROOT, ChatServer

CONTAINERS = {"dict", "set", "list", "deque", "OrderedDict", "defaultdict", "Counter"}
APART = ("commands", "realtime/redis_manager", "api/reference")
"""Folders whose code does not run in a server or a relay for long."""

END_WITH_THEIR_OWNER = {
    # with a socket
    "Arrival",
    "ClientConnection",
    "Connection",
    "Polling",
    "ReceiveQueue",
    "Session",
    "WebSocket",
    # with a room, a conversation or an ordering key
    "ConversationTail",
    "KeyQueue",
    "RoomUpdate",
    "_Sequence",
    # with a turn of the event loop, a write or a request
    "Check",
    "Turn",
    "_Batch",
    # with a connection to Redis
    "Publisher",
}
COUNTED_ELSEWHERE = {
    "ExpiryQueue._ends": "by whoever uses the queue",
    "FairQueue._of_key": "by whoever uses the queue",
    "GatheredReads._tasks": "by whoever reads",
    "GatheredReads._waiting": "by whoever reads",
    "Heartbeat._due": "with the sessions",
    "Heartbeat._pinged": "with the sessions",
    "Subscriptions._subscribed": "by the cluster",
}
FIXED = {
    "Bounds._seen": "kinds of log lines, for a second",
    "Families._families": "metrics",
    "Families._stores": "metrics",
    "Jobs._failing": "kinds of jobs",
    "Jobs._items": "kinds of jobs",
    "Jobs._kinds": "kinds of jobs",
    "Jobs._steps": "kinds of jobs",
    "Jobs._unfinished": "kinds of jobs",
    "Metrics._answered": "metrics",
    "Operations._failed": "metrics",
    "Relay._of_slot": "16 partitions per endpoint",
    "Rooms._departures": "parts of the core",
    "Rooms._unfollowed": "parts of the core",
    "Rooms._handlers": "kinds of signals",
    "KeySet._keys": "the keys of the token issuer",
}


def classes() -> Iterator[ast.ClassDef]:
    for path in sorted((ROOT / "chatserver").rglob("*.py")):
        folder = str(path.parent.relative_to(ROOT / "chatserver"))
        if not folder.startswith(APART):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    yield node


def is_container(value: ast.expr | None) -> bool:
    """True for an empty display, and for a call such as `OrderedDict()` or `field(default_factory=dict)`."""
    if isinstance(value, ast.Dict | ast.List):
        return not ast.unparse(value).strip("{}[]")
    if not isinstance(value, ast.Call):
        return False
    name = ast.unparse(value.func)
    if name == "field":
        return any(ast.unparse(keyword.value) in CONTAINERS for keyword in value.keywords)
    return name in CONTAINERS or name == "dict.fromkeys"


def containers(node: ast.ClassDef) -> Iterator[str]:
    """Yields the names of the attributes that hold a container. Those of a frozen class do not grow."""
    frozen = any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list)
    for inner in ast.walk(node):
        if isinstance(inner, ast.AnnAssign | ast.Assign) and is_container(inner.value):
            targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    yield target.attr
                elif isinstance(inner.value, ast.Call) and inner in node.body and not frozen:
                    yield ast.unparse(target)


def counted(node: ast.ClassDef) -> set[str]:
    """Returns the attributes that the class names in its calls of `memory`."""
    return {
        inner.attr
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "memory"
        for inner in ast.walk(call)
        if isinstance(inner, ast.Attribute)
    }


def test_every_container_that_lives_as_long_as_the_process_is_counted() -> None:
    found: set[str] = set()
    for node in classes():
        if node.name not in END_WITH_THEIR_OWNER:
            found |= {f"{node.name}.{name}" for name in set(containers(node)) - counted(node)}
    assert found - COUNTED_ELSEWHERE.keys() - FIXED.keys() == set(), (
        "give it a bound and count it with `memory`, or say here with what it ends"
    )
    assert found >= COUNTED_ELSEWHERE.keys() | FIXED.keys(), "these no longer need a reason"
    names = {node.name for node in classes()}
    assert names >= END_WITH_THEIR_OWNER


async def steady(server: ChatServer, wanted: dict[str, float], within: float) -> None:
    """Waits until the stores without a fixed bound have the wanted number of entries."""
    end = time.monotonic() + within
    while True:
        entries, bounds = stores(await scrape(server))
        differ = {
            store: (count, wanted[store])
            for store, count in entries.items()
            if store not in bounds and count != wanted[store]
        }
        if not differ:
            return
        assert time.monotonic() < end, f"not as before: {differ}"
        await asyncio.sleep(0.5)


async def test_every_store_returns_to_what_it_was_when_its_users_have_gone(
    start: Starter, redis_url: str, people_of: Callable[[ChatServer], People]
) -> None:
    server = await start(REDIS_URL=redis_url, PRESENCE_GRACE_S="0.5", PING_TIMEOUT_S="5")
    before, bounds = stores(await scrape(server))
    people = people_of(server)
    everyone: list[Person] = people(*(f"user{n}" for n in range(40)))
    talks = [await everyone[n].group(*everyone[n : n + 8], name=f"{n}") for n in range(0, 40, 8)]

    async def come(n: int, person: Person) -> tuple[Device, Wire]:
        talk = talks[n // 8]
        device = await person.connect("polling" if n % 3 == 0 else "websocket")
        sent = await device.say(talk, "hello", clientMessageId="1")
        for other in (await person.ask("GET", f"/conversations/{talk['id']}/messages"))["items"]:
            await device.do("message:read", {"messageId": other["id"]})
        await device.do("message:delete", {"messageId": sent["id"], "scope": "self"})
        await device.do("auth:refresh", {"token": person.token})
        await device.do("room:leave", {"conversationId": talk["id"]})
        await device.do("presence:subscribe", {"userIds": [other.id for other in everyone]})
        wire = await Wire.connect(person)
        await wire.ask("typing:start", {"conversationId": talk["id"]})
        # A client that is refused leaves nothing, either.
        with suppress(ConnectionRefused):
            await person.connect(with_token=token(person.id, secret="x" * 32))
        return device, wire

    there = await asyncio.gather(*(come(n, person) for n, person in enumerate(everyone)))
    during, _ = stores(await scrape(server))
    for store in (
        "users who hide messages",
        "connections",
        "timers of tokens",
        "presence",
        "watched users",
    ):
        assert during[store] >= before[store] + 40, store
    for n, (device, wire) in enumerate(there):
        if n % 2:
            await wire.close()
        else:
            wire.websocket._conn.transport.abort()  # type: ignore[union-attr]
        await device.close()
    # Channels stay subscribed for 30 s after their last use.
    await steady(server, before, within=min(60 * slowness(), 200))
    after, _ = stores(await scrape(server))
    assert all(after[store] <= bound for store, bound in bounds.items())
    assert after["ids of clients' messages"] == 40


# --- bounds that no test reaches over the wire ---------------------------------------------------


async def test_a_token_is_forgotten_after_its_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.api.auth.VERIFIED_S", 0.1)
    tokens = Tokens([JWT_SECRET])
    for n in range(20):
        await tokens.verify(token(f"user{n}"))
    assert len(tokens._verified) == 20
    await asyncio.sleep(0.2)
    await tokens.verify(token("late"))
    assert [identity.user_id for identity, _ in tokens._verified.values()] == ["late"]


async def test_a_token_that_is_renewed_as_its_client_leaves_keeps_no_timer() -> None:
    expiry, connection = Expiry(cast(Any, None)), cast(Any, object())
    expiry.set(connection, time.time() + 60)
    expiry.renew(connection, time.time() + 120)
    assert list(expiry._timers) == [connection]
    expiry.cancel(connection)
    # The handler of auth:refresh has waited for the keys of the issuer.
    expiry.renew(connection, time.time() + 120)
    assert expiry._timers == {}


async def test_channels_that_come_and_go_while_redis_is_away_leave_nothing() -> None:
    channels = Channels()
    for n in range(100):
        channels.want(b"%d" % n, "user")
        channels.forget(b"%d" % n)
    assert channels._changed == {}
    channels.want(b"stays", "user")
    assert b"SUBSCRIBE" in b"".join(channels.changes())
    channels.forget(b"stays")
    assert b"UNSUBSCRIBE" in b"".join(channels.changes())


async def test_removed_users_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1000.0
    monkeypatch.setattr("chatserver.chat.log.tail.time.monotonic", lambda: at)
    tail = ConversationTail("talk")
    for n in range(1000):
        removal = {"_id": f"talk-{n:08x}", "kind": "members", "lastSeq": 0, "lastRev": 0}
        tail.advance({**removal, "removed": [f"user{n}", "again"]})
        at += 1
    assert len(tail.removed) == REMOVED_S + 2
    assert list(tail.removed)[-2:] == ["user999", "again"]
    tail.advance({**removal, "added": ["again"]})
    assert list(tail.removed)[-1] == "user999"


async def test_transitions_that_the_database_did_not_confirm_are_bounded() -> None:
    class Away:
        """A database that does not answer the commit."""

        async def presence_of(self, user_ids: list[str], session: Any) -> list[dict[str, Any]]:
            return [{"_id": user_id} for user_id in user_ids]

        async def set_presence(self, *_: Any) -> None: ...

        async def transaction(self, body: Callable[[Any], Awaitable[None]]) -> None:
            await body(None)
            raise DatabaseUnavailable

    async def nothing(*_: Any) -> None: ...

    away = create_autospec(Members, **{"rooms_of_many.return_value": {}})
    transitions = Transitions(
        cast(Any, Away()),
        create_autospec(Outbox),
        away,
        cast(Any, Mock(rooms_of=lambda _: ())),
        create_autospec(LargeConversations),
    )
    for n in range(0, 2 * MAX_UNSURE, BATCH):
        users = {f"user{n + i}": Sighting(True, now()) for i in range(BATCH)}
        with pytest.raises(DatabaseUnavailable):
            await transitions.record(users, "lease", replaces=lambda _: False, guard=nothing)
    assert len(transitions._unsure) == MAX_UNSURE
    assert f"user{2 * MAX_UNSURE - 1}" in transitions._unsure
