"""The scenarios. Each drives one run and yields (case, row). The keys of a row are the columns."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from . import limits
from .run import Measured, Row, Run, Start
from .seed import token

MESSAGE_BYTES = 100
SENDS_FIRST = f"fill 4 64 {MESSAGE_BYTES}"
WARM_S = 1
IN_ROOM = 4
TYPED_PER_S = 1000
READERS = 16
CROWD = 1000
STORMS = {
    "quiet": [""],
    "1,000 message:read": ["read"],
    "1,000 conversation:read": ["read-all"],
    "1,000 room:join": ["leave", "join"],
    "1,000 typing:start": ["typing"],
    "1,000 connections": ["connect"],
}
"""The last phase of each is shown."""
PAGE = 50
PING_INTERVAL_S = 25
"""Socket.IO's default, which both servers use. A measurement of this length has one ping per connection."""


@dataclass(frozen=True)
class Scenario:
    title: str
    drives: Sequence[Callable[[Run, float], Iterator[tuple[str, Row]]]]
    """Each gets a new server and database."""
    peer: bool = True
    """False if the peer cannot do this."""

    def round(self, servers: Mapping[str, Start], seconds: float) -> Iterator[tuple[str, str, Row]]:
        """Runs each server once. Yields (case, server, row)."""
        for drive in self.drives:
            for name, start in servers.items():
                if name == "node" and not self.peer:
                    continue
                sys.stderr.write(f"{self.title}: {name}\n")
                with start() as run:
                    for case, row in drive(run, seconds):
                        yield case, name, row


def seed_for_sends(run: Run) -> None:
    chance = random.Random(1)
    run.seed(500, [chance.sample(range(500), chance.randint(2, 10)) for _ in range(300)])


def send(run: Run, seconds: float) -> Iterator[tuple[str, Row]]:
    seed_for_sends(run)
    warm(run, SENDS_FIRST)
    for in_flight in (1, 64, 256):
        yield (
            f"{in_flight} in flight",
            _messages(run.do(f"closed {seconds} {in_flight} {MESSAGE_BYTES}")),
        )
    yield "200/s open loop", _messages(run.do(f"open {seconds} 200 {MESSAGE_BYTES}"))


def room(run: Run, seconds: float) -> Iterator[tuple[str, Row]]:
    run.seed(2, [[0, 1]])
    warm(run, f"fill 500 4 {MESSAGE_BYTES}")
    yield "4 in flight", _messages(run.do(f"closed {seconds} 4 {MESSAGE_BYTES}"))


def persisted(run: Run, seconds: float, members: int) -> Iterator[tuple[str, Row]]:
    run.seed(members, [list(range(members))])
    warm(run, f"room {WARM_S} {IN_ROOM} {MESSAGE_BYTES}")
    measured = run.do(f"room {seconds} {IN_ROOM} {MESSAGE_BYTES}")
    answer = measured.answer
    each = 1e6 / max(answer["delivered"], 1)
    yield (
        f"N={members}, {IN_ROOM} under way",
        {
            "server µs": measured.server * each,
            "deliveries/s": answer["delivered"] / answer["drained"],
            "mongod µs": measured.mongod * each,
            "load µs": measured.load * each,
            "p50 ms": answer["heard50"],
            "p99 ms": answer["heard99"],
            "bad": answer["bad"],
        },
    )


def typing(run: Run, seconds: float) -> Iterator[tuple[str, Row]]:
    run.seed(500, [list(range(k, k + 10)) for k in range(0, 500, 10)])
    warm(run, f"typing {WARM_S} {TYPED_PER_S}")
    measured = run.do(f"typing {seconds} {TYPED_PER_S}")
    events = seconds * TYPED_PER_S
    yield (
        f"{TYPED_PER_S:,}/s to 9 others",
        {
            "server µs": measured.server / events * 1e6,
            "deliveries": measured.answer["delivered"] / events,
            "bad": measured.answer["bad"],
        },
    )


def storm(run: Run, seconds: float) -> Iterator[tuple[str, Row]]:
    """All members of a group do the same at once, while people elsewhere send messages."""
    pairs = [[CROWD + k, CROWD + k + 1] for k in range(0, 200, 2)]
    run.seed(CROWD + 200, [list(range(CROWD)), *pairs])
    warm(run, f"room {WARM_S} 1 {MESSAGE_BYTES}")
    sends = f"open {seconds} 100 {MESSAGE_BYTES}"
    for case, kinds in STORMS.items():
        run.load.tell("among 0 1")
        run.do(f"fill 1 1 {MESSAGE_BYTES}")
        run.load.tell(f"among 1 {len(pairs)}")
        for kind in kinds:
            if kind:
                run.load.tell(f"storm {kind}")
            measured = run.do(sends)
        answer = measured.answer
        yield (
            case,
            {
                "p50 ms": answer["p50"],
                "p99 ms": answer["p99"],
                "max ms": answer["max"],
                "storm s": answer["storm"],
                "server s": measured.server,
                "mongod s": measured.mongod,
                "load s": measured.load,
                "bad": answer["bad"],
            },
        )


def history(run: Run, seconds: float) -> Iterator[tuple[str, Row]]:
    groups = [[2 * k, 2 * k + 1] for k in range(READERS)]
    for k, conversation in enumerate(run.seed(2 * READERS, groups)):
        path = f"/api/conversations/{conversation}/messages?limit={PAGE}"
        run.load.tell(f"page {PAGE} {token(2 * k)} {path}")
    warm(run, f"fill {PAGE + 10} 64 {MESSAGE_BYTES}", "pages 2")
    measured = run.do(f"pages {seconds}")
    answer = measured.answer
    yield (
        f"{READERS} readers",
        {
            "pages/s": answer["done_in_time"] / answer["seconds"],
            **cost(measured, answer["done"]),
            "p50 ms": answer["p50"],
            "p99 ms": answer["p99"],
            "KB": answer["bytes"] / max(answer["done"], 1) / 1000,
            "bad": answer["bad"],
        },
    )


def connect(run: Run, _: float) -> Iterator[tuple[str, Row]]:
    """All clients reconnect to a server that has just started, so there is no warm-up."""
    chance, users, groups = random.Random(1), list(range(1000)), []
    for _ in range(50):
        chance.shuffle(users)
        groups += [users[k : k + 10] for k in range(0, len(users), 10)]
    run.seed(len(users), groups)
    run.restart_server()
    measured = run.do("connect 64")
    answer = measured.answer
    yield (
        "64 in flight",
        {
            "connects/s": answer["ready"] / answer["seconds"],
            **cost(measured, answer["ready"]),
            "commands": measured.commands / max(answer["ready"], 1),
            "p50 ms": answer["p50"],
            "p99 ms": answer["p99"],
            "bad": answer["bad"],
        },
    )


def idle(run: Run, _: float, clients: int) -> Iterator[tuple[str, Row]]:
    run.seed(clients, [list(range(k, k + 10)) for k in range(0, clients, 10)])
    run.restart_server()
    empty = run.server.memory_kb()
    connected = run.do("connect 64").answer
    run.do("idle 5")
    full = run.server.memory_kb()
    measured = run.do(f"idle {PING_INTERVAL_S}")
    yield (
        f"{clients:,} clients",
        {
            **held(measured, full - empty, clients),
            "bad": connected["bad"] + measured.answer["bad"],
        },
    )


def held(measured: Measured, kb: float, clients: int) -> Row:
    """Returns the cost of connections that only answer pings."""
    return {
        "KB/client": kb / clients,
        "server µs/client/s": measured.server / clients / PING_INTERVAL_S * 1e6,
        "pings/client": measured.answer["pings"] / clients,
    }


def warm(run: Run, *phases: str) -> None:
    """Connects the clients, and lets both servers compile and fill their caches."""
    for phase in ("connect 64", *phases):
        if run.do(phase).answer["bad"]:
            raise SystemExit("The warm-up failed, so there is nothing to measure.")


def _messages(measured: Measured) -> Row:
    answer = measured.answer
    return {
        "acked/s": answer["done_in_time"] / answer["seconds"],
        **cost(measured, answer["done"]),
        "p50 ms": answer["p50"],
        "p99 ms": answer["p99"],
        "bad": answer["bad"],
    }


def cost(measured: Measured, operations: int) -> Row:
    each = 1e6 / max(operations, 1)
    return {
        "server µs": measured.server * each,
        "mongod µs": measured.mongod * each,
        "load µs": measured.load * each,
    }


def scenarios(clients: int) -> dict[str, Scenario]:
    """`clients`: the number of idle clients."""
    return {
        "send": Scenario("send: messages in 300 conversations of 2 to 10 of 500 users", [send]),
        "history": Scenario(
            f"history: the newest {PAGE} messages of a conversation over HTTP", [history]
        ),
        "connect": Scenario(
            "connect: 1,000 users with 50 conversations each, at the same time", [connect]
        ),
        "room": Scenario("room: messages in one conversation of two", [room]),
        "persisted": Scenario(
            "persisted: messages in one conversation of N",
            [partial(persisted, members=members) for members in (20, 200, 1000)],
        ),
        "typing": Scenario("typing: 50 conversations of 10, nothing stored", [typing]),
        "storm": Scenario(
            f"storm: {CROWD:,} members of a group do the same at once, while others send 100/s",
            [storm],
            peer=False,
        ),
        "limits": Scenario(
            "limits: CPU of a request, and what one user can spend per second",
            [limits.drive],
            peer=False,
        ),
        "idle": Scenario(
            f"idle: clients that send nothing for {PING_INTERVAL_S} s",
            [partial(idle, clients=clients)],
        ),
    }
