"""Measures the cost of a conversation with members on several nodes, also for the other nodes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from . import big
from .nodes import Cost, Nodes
from .run import Row
from .scenarios import CROWD, MESSAGE_BYTES, TYPED_PER_S, WARM_S

Start = Callable[..., Nodes]
"""Starts nodes of one server. Takes the groups and `count`."""

MEMBERS = 10
CONVERSATIONS = 30
"""Of each kind: LOCAL (all members on one node), SPLIT (on two nodes), SPREAD (pairs of nodes in turn)."""
LOCAL, SPLIT, SPREAD = 0, 1, 2
SENT_PER_S = 500
IN_FLIGHT = 256
RIVALS = (8, 32)
"""Messages in flight per writer."""


def groups(count: int) -> list[list[int]]:
    """Returns the nodes of the members of each conversation: LOCAL, then SPLIT, then SPREAD."""
    half = MEMBERS // 2
    near, far = [0] * half, [min(1, count - 1)] * half
    return [
        *([[*near, *near]] * CONVERSATIONS),
        *([[*near, *far]] * CONVERSATIONS),
        *([k % count] * half + [(k + 1) % count] * half for k in range(CONVERSATIONS)),
    ]


@dataclass(frozen=True)
class Load:
    """Events at fixed times."""

    phase: str
    per_s: int

    def line(self, seconds: float) -> str:
        return self.phase.format(seconds=seconds, per_s=self.per_s)


LOADS = {
    f"typing, {TYPED_PER_S:,}/s": Load("typing {seconds} {per_s}", TYPED_PER_S),
    f"messages, {SENT_PER_S:,}/s": Load(f"open {{seconds}} {{per_s}} {MESSAGE_BYTES}", SENT_PER_S),
}


@dataclass(frozen=True)
class Paid:
    """CPU in µs per event, without the CPU that the same processes need when idle."""

    nodes: Sequence[float]
    redis: float
    mongod: float


class Measuring:
    """The measurements of one start of nodes. The cost of idling is measured first."""

    def __init__(self, nodes: Nodes, seconds: float) -> None:
        self._nodes, self._seconds = nodes, seconds
        # Only members on the first node of a conversation write, so that the others are on another node.
        nodes.tell(f"writers {MEMBERS // 2}")
        nodes.connect()
        warm = (
            f"open {WARM_S} {SENT_PER_S} {MESSAGE_BYTES}",
            f"typing {WARM_S} {TYPED_PER_S}",
            "idle 1",
        )
        # Stock python-socketio can already change the order here.
        self.bad = sum(int(nodes.do(phase).answer["bad"]) for phase in warm)
        self._silence = nodes.do(f"idle {seconds}")

    def do(self, kind: int, load: Load) -> tuple[Cost, Paid]:
        self._nodes.tell(f"among {kind * CONVERSATIONS} {CONVERSATIONS}")
        cost = self._nodes.do(load.line(self._seconds))
        return cost, self._paid(cost, self._seconds * load.per_s)

    def closed(self) -> tuple[Cost, Paid]:
        self._nodes.tell(f"among {SPREAD * CONVERSATIONS} {CONVERSATIONS}")
        cost = self._nodes.do(f"closed {self._seconds} {IN_FLIGHT} {MESSAGE_BYTES}")
        return cost, self._paid(cost, cost.answer["done"])

    def _paid(self, cost: Cost, events: float) -> Paid:
        part = float(cost.answer["drained"] / self._silence.answer["seconds"])

        def each(spent: float, silent: float) -> float:
            return (spent - silent * part) / max(events, 1) * 1e6

        return Paid(
            [*map(each, cost.nodes, self._silence.nodes)],
            each(cost.redis, self._silence.redis),
            each(cost.mongod, self._silence.mongod),
        )


def drive(start: Start, seconds: float) -> Iterator[tuple[str, Row]]:
    rows: dict[str, Row] = {}
    with start(groups(4), count=4) as nodes:
        four = Measuring(nodes, seconds)
        for case, load in LOADS.items():
            rows[case] = _placed(four, load)
        most = _full(four)
        rows[case]["bad"] += four.bad
    for count, column in ((2, "2 nodes µs"), (1, "1 node µs")):
        with start(groups(count), count=count) as nodes:
            few = Measuring(nodes, seconds)
            for case, load in LOADS.items():
                cost, paid = few.do(SPREAD, load)
                rows[case][column] = sum(paid.nodes)
                rows[case]["bad"] += cost.answer["bad"]
            rows[case]["bad"] += few.bad
            if count > 1:
                full = {"2 nodes µs": 0.0, **_full(few)}
                full["2 nodes µs"] = full.pop("nodes µs")
                full["4 nodes µs"] = most["nodes µs"]
                full["4 / 2"] = most["nodes µs"] / full["2 nodes µs"]
                full["bad"] += most["bad"]
    for row in rows.values():
        row["4 / 2"] = row["4 nodes µs"] / row["2 nodes µs"]
    yield from rows.items()
    yield f"{IN_FLIGHT} in flight", full


def _placed(four: Measuring, load: Load) -> Row:
    (local, of_local), (split, of_split), (spread, of_spread) = (
        four.do(kind, load) for kind in (LOCAL, SPLIT, SPREAD)
    )
    bystanders = [*of_local.nodes[1:], *of_split.nodes[2:]]
    row = {
        "local µs": of_local.nodes[0],
        "split µs": sum(of_split.nodes[:2]),
        "split / local": sum(of_split.nodes[:2]) / of_local.nodes[0],
        "bystander µs": sum(bystanders) / len(bystanders),
        "redis µs": of_split.redis,
        "redis, local µs": of_local.redis,
        "1 node µs": 0.0,
        "2 nodes µs": 0.0,
        "4 nodes µs": sum(of_spread.nodes),
        "4 / 2": 0.0,
    }
    if split.answer["far50"]:
        row["p50 ms"] = split.answer["heard50"]
        row["far p50 ms"] = split.answer["far50"]
        row["added ms"] = split.answer["far50"] - split.answer["heard50"]
    row["bad"] = sum(cost.answer["bad"] for cost in (local, split, spread))
    return row


def _full(two: Measuring) -> Row:
    cost, paid = two.closed()
    answer = cost.answer
    return {
        "/s": answer["done_in_time"] / answer["seconds"],
        "nodes µs": sum(paid.nodes),
        "redis µs": paid.redis,
        "mongod µs": paid.mongod,
        "p50 ms": answer["heard50"],
        "far p50 ms": answer["far50"],
        "added ms": answer["far50"] - answer["heard50"],
        "bad": answer["bad"],
    }


def rivals(start: Start, seconds: float) -> Iterator[tuple[str, Row]]:
    """Measures one conversation with a writer on each node."""
    for count in (1, 2, 3):
        with start([list(range(count))], count=count) as nodes:
            nodes.connect()
            nodes.do(f"rivals {WARM_S} {RIVALS[0]} {MESSAGE_BYTES}")
            for in_flight in RIVALS:
                cost = nodes.do(f"rivals {seconds} {in_flight} {MESSAGE_BYTES}")
                answer = cost.answer
                each = 1e6 / max(answer["done"], 1)
                yield (
                    f"{count} × {in_flight} under way",  # noqa: RUF001  it is a times sign
                    {
                        "acked/s": answer["done_in_time"] / answer["seconds"],
                        "nodes µs": sum(cost.nodes) * each,
                        "mongod µs": cost.mongod * each,
                        "p50 ms": answer["p50"],
                        "p99 ms": answer["p99"],
                        "least / most": answer["least"] / max(answer["most"], 1),
                        "bad": answer["bad"],
                    },
                )


@dataclass(frozen=True)
class Scenario:
    title: str
    drive: Callable[[Start, float], Iterator[tuple[str, Row]]]
    only: frozenset[str] = frozenset()
    """The servers that it measures. Empty: all."""
    ratios: bool = True
    """True if the figures are compared with those of the last server."""

    def round(self, servers: Mapping[str, Start], seconds: float) -> Iterator[tuple[str, str, Row]]:
        for name, start in servers.items():
            if name in self.only or not self.only:
                sys.stderr.write(f"{self.title}: {name}\n")
                for case, row in self.drive(start, seconds):
                    yield case, name, row


def scenarios() -> dict[str, Scenario]:
    return {
        "cluster": Scenario(
            "cluster: conversations of 10 on one or two nodes of several, CPU per event",
            drive,
            ratios=False,
        ),
        "big": Scenario(
            f"big: a channel with {CROWD:,} of its members connected, beside pairs who send {big.SENT_PER_S}/s",
            big.drive,
            only=frozenset({"chatserver"}),
            ratios=False,
        ),
        "rivals": Scenario(
            "rivals: one conversation with writers on several nodes",
            rivals,
            only=frozenset({"chatserver", "beside"}),
        ),
    }
