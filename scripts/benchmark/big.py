"""Measures a channel of up to a hundred thousand members, of whom a thousand are connected.

Meanwhile others send messages in conversations of two: their times tell how long the event loop was blocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from .nodes import Cost, Nodes
from .run import Row
from .scenarios import CROWD, IN_ROOM, MESSAGE_BYTES, WARM_S
from .seed import add_members, converse, pages

Start = Callable[..., Nodes]

SIZES = (1_000, 20_000, 100_000)
CALL = 1_000
"""Users who are added by one call."""
CALLS = 5
"""The last calls before a size is reached are measured."""
PAIRS = 100
SENT_PER_S = 100
RECONNECTING = 5_000
RECONNECT_S = 5
"""The time within which they connect again."""
LISTED = (50, 10_000)
PAGE = 50
PAGES = 300


def drive(start: Start, seconds: float) -> Iterator[tuple[str, Row]]:
    for count in (1, 2):
        crowd = [k % count for k in range(CROWD)]
        with start([crowd, *([[0, count - 1]] * PAIRS)], count=count) as nodes:
            nodes.connect()
            nodes.do(f"room {WARM_S} {IN_ROOM} {MESSAGE_BYTES}")
            size = CROWD
            for wanted in SIZES:
                where = f"{wanted:,} members, {_nodes(count)}"
                if wanted > size:
                    _add(nodes, size, wanted - CALLS * CALL)
                    yield f"add {CALL:,}: {where}", _adding(nodes, wanted, seconds)
                    size = wanted
                yield f"message: {where}", _talking(nodes, seconds)
                yield f"read by {CROWD:,}: {where}", _reading(nodes, seconds)
        yield f"{RECONNECTING:,} reconnect: {_nodes(count)}", _reconnecting(start, count)
    with start([[0], [0]], count=1) as nodes:
        for number, conversations in enumerate(LISTED):
            asyncio.run(converse(nodes.origin, number, conversations))
            yield f"a page of {PAGE} of {conversations:,} conversations", _listing(nodes, number)


def _add(nodes: Nodes, size: int, wanted: int) -> list[float]:
    """Adds users to the channel until it has as many as wanted. Returns the seconds that each call took."""
    # The first users are those who are connected; the rest exist only for this.
    first = CROWD + 2 * PAIRS
    return asyncio.run(
        add_members(nodes.origin, nodes.ids[0], range(first + size, first + wanted), CALL)
    )


def _adding(nodes: Nodes, wanted: int, seconds: float) -> Row:
    nodes.tell(f"among 1 {PAIRS}")
    kb = nodes.memory_kb()
    with ThreadPoolExecutor(1) as beside:
        sending = beside.submit(nodes.do, f"open {seconds} {SENT_PER_S} {MESSAGE_BYTES}")
        took = _add(nodes, wanted - CALLS * CALL, wanted)
        cost = sending.result()
    return {"answer s": median(took), **_others(cost), "+MB": (nodes.memory_kb() - kb) / 1000}


def _talking(nodes: Nodes, seconds: float) -> Row:
    nodes.tell("among 0 1")
    cost = nodes.do(f"room {seconds} {IN_ROOM} {MESSAGE_BYTES}")
    each = 1e6 / max(cost.answer["delivered"], 1)
    return {"µs per delivery": sum(cost.nodes) * each, "bad": cost.answer["bad"]}


def _reading(nodes: Nodes, seconds: float) -> Row:
    """All who are connected read a new message at once."""
    nodes.tell("among 0 1")
    nodes.do(f"fill 1 1 {MESSAGE_BYTES}")
    nodes.tell(f"among 1 {PAIRS}")
    quiet = nodes.do(f"open {seconds} {SENT_PER_S} {MESSAGE_BYTES}")
    nodes.tell("storm read")
    cost = nodes.do(f"open {seconds} {SENT_PER_S} {MESSAGE_BYTES}")
    return {**_others(cost), "server s": sum(cost.nodes) - sum(quiet.nodes)}


def _reconnecting(start: Start, count: int) -> Row:
    """All members of a channel are connected and lose their connections, as when a proxy restarts."""
    crowd = [k % count for k in range(RECONNECTING)]
    with start([crowd, *([[0, count - 1]] * PAIRS)], count=count) as nodes:
        nodes.connect()
        nodes.tell(f"among 1 {PAIRS}")
        seconds = RECONNECT_S + WARM_S
        quiet = nodes.do(f"open {seconds} {SENT_PER_S} {MESSAGE_BYTES}")
        nodes.tell(f"storm connect {RECONNECT_S}")
        cost = nodes.do(f"open {seconds} {SENT_PER_S} {MESSAGE_BYTES}")
    return {
        **_others(cost),
        "server s": sum(cost.nodes) - sum(quiet.nodes),
        "mongod s": cost.mongod - quiet.mongod,
    }


def _listing(nodes: Nodes, number: int) -> Row:
    asyncio.run(pages(nodes.origin, number, PAGE, PAGES))
    cost = nodes.cost_of(
        lambda: {"took": asyncio.run(pages(nodes.origin, number, PAGE, PAGES))},
    )
    return {
        "answer s": median(cost.answer["took"]),
        "server s": sum(cost.nodes),
        "mongod s": cost.mongod,
        "bad": 0,
    }


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count > 1)}"


def _others(cost: Cost) -> Row:
    answer = cost.answer
    return {
        "others p99 ms": answer["p99"],
        "others max ms": answer["max"],
        "bad": answer["bad"],
    }
