"""Measures what a request costs the server and the database, and so what one user can make them spend per second.

The requests are made one after another, without rate limits. The rates and costs of the operations then tell how many
of them a user could make.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Any

import aiohttp

from chatserver import json_codec
from chatserver.api.operations.operation import Operation
from chatserver.api.operations.table import FOR_USERS
from chatserver.api.rate_limits import WEIGHT, Rate
from chatserver.api.requests.schema import parse
from chatserver.commands.client.api import Api
from chatserver.commands.client.socket import Socket

from .run import Row, Run
from .seed import bearer, token, user

OPERATIONS = {operation.name: operation for operation in FOR_USERS}
LISTED = 250
"""Conversations of the users who list theirs."""
CROWD = 1000
"""Members of the largest conversation. User 0, who makes most requests, is its owner."""
BUSY = CROWD
"""A user whose conversations have a hundred members. The others of user 0 have two."""
READ_BY = 250
LINE = "A line of a usual length, as people write them in a chat."
WARM = 3
"""Requests before the measurement, for the caches."""
AT_MOST = 1000
"""Requests of a measurement: lists of what they made must stay short."""


@dataclass(frozen=True)
class Scene:
    crowd: str
    short: str
    """A conversation with many messages of a line."""
    long: str
    """A conversation with as many messages of 10,000 characters."""
    message: str
    """A message in `crowd` that many have read, and to which they have reacted."""


@dataclass(frozen=True)
class Case:
    name: str
    operation: Operation
    payload: Callable[[], Mapping[str, Any]]
    """Makes the payload of the next request."""
    caller: int


def drive(run: Run, seconds: float) -> Iterator[tuple[str, Row]]:
    pairs = [[0, BUSY + 1 + k] for k in range(LISTED)]
    hundreds = [[BUSY, *range(1, 100)] for _ in range(LISTED)]
    ids = run.seed(BUSY + 1 + LISTED, [list(range(CROWD)), *pairs, *hundreds])
    scene = asyncio.run(_set(run, *ids[:3]))
    for case in _cases(scene):
        yield case.name, asyncio.run(_measure(run, case, seconds))


async def _set(run: Run, crowd: str, short: str, long: str) -> Scene:
    async with aiohttp.ClientSession() as http:

        async def send(conversation: str, text: str) -> str:
            path = f"/conversations/{conversation}/messages"
            return str((await _api(http, run, 0).ask("POST", path, {"content": text}))["id"])

        for _ in range(READ_BY):
            await send(short, LINE)
            await send(long, "x" * 10_000)
        message = await send(crowd, LINE)
        for reader in range(1, READ_BY):
            api = _api(http, run, reader)
            await api.ask("PUT", f"/messages/{message}/read")
            await api.ask("POST", f"/messages/{message}/reactions", {"emoji": "👍"})
    return Scene(crowd, short, long, message)


def _cases(scene: Scene) -> Iterator[Case]:
    """Those that change what others read come last."""

    def case(name: str, operation: str, caller: int = 0, **payload: Any) -> Case:
        """A function in the payload makes a value for each request."""
        return Case(
            name,
            OPERATIONS[operation],
            lambda: {key: of() if callable(of) else of for key, of in payload.items()},
            caller,
        )

    in_crowd, message = {"conversationId": scene.crowd}, {"messageId": scene.message}
    members = [user(n) for n in range(1, CROWD)]
    for limit in (1, 4, 50, 200):
        yield case(f"list {limit}, of 2 each", "conversations.own", limit=limit)
    for limit in (1, 50, 200):
        yield case(f"list {limit}, of 100 each", "conversations.own", BUSY, limit=limit)
    yield case("a conversation of 1,000", "conversations.get", **in_crowd)
    for name, where in (("short", scene.short), ("long", scene.long)):
        for limit in (50, 200):
            page = {"conversationId": where, "limit": limit}
            yield case(f"page of {limit}, {name}", "messages.page", **page)
            yield case(f"sync of {limit}, {name}", "messages.sync", **page, afterRev=0)
    yield case("200 participants", "conversations.participants", **in_crowd, limit=200)
    yield case("200 reactions", "messages.reactions", **message, limit=200)
    yield case("200 readers", "receipts.readers", **message, limit=200)
    yield case("unread count", "receipts.unread", **in_crowd)
    for number in (49, 199):
        named = members[:number]
        yield case(
            f"presence in it, {number}", "presence.of_conversation", **in_crowd, limit=number
        )
        yield case(f"presence of {number}", "presence.of_many", userIds=named)
        yield case(f"subscribe to {number}", "presence.subscribe", userIds=named)
    for number in (199, 999):
        yield case(f"unsubscribe {number}", "presence.unsubscribe", userIds=members[:number])
    yield case("typing", "activity.start_typing", conversationId=scene.short)
    yield case("send", "messages.send", conversationId=scene.short, content=LINE)
    number = count()
    yield case("edit", "messages.edit", **message, content=lambda: f"Edit {next(number)}")
    yield case("read", "receipts.read_message", READ_BY + 1, **message)
    for size in (1, 49, 999):
        of = {"type": "group", "participantIds": members[:size]}
        yield case(f"create of {size}", "conversations.create", **of)
    for size in (1, 499, 999):
        yield case(
            f"add {size}",
            "conversations.add",
            **in_crowd,
            userIds=lambda size=size: [f"new{next(number)}" for _ in range(size)],
        )


async def _measure(run: Run, case: Case, seconds: float) -> Row:
    operation = case.operation
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        if operation.route is not None:
            ask = _by_rest(_api(http, run, case.caller), operation)
        else:
            socket = await Socket.open(http, run.sockets, token(case.caller), lambda *_: None)
            stack.push_async_callback(socket.close)
            ask = _by_event(socket, operation)
        for _ in range(WARM):
            payload = case.payload()
            answer = await ask(payload)
        before, began, done = run.cpu(), time.monotonic(), 0
        while done < AT_MOST and time.monotonic() < began + seconds:
            await ask(case.payload())
            done += 1
        after = run.cpu()
    server, mongod = ((after[name] - before[name]) / done * 1000 for name in ("server", "mongod"))
    taken = _taken(operation, payload, answer)
    often = min(rate.count / rate.per / tokens for rate, tokens in taken)
    return {
        "server ms": server,
        "mongod ms": mongod,
        "per second": often,
        "at once": min(ceil(rate.burst / tokens) for rate, tokens in taken),
        "server ms/s": server * often,
        "mongod ms/s": mongod * often,
        "bad": 0,
    }


def _taken(
    operation: Operation, payload: Mapping[str, Any], answer: Any
) -> list[tuple[Rate, float]]:
    """Returns the tokens that a request takes, of each bucket."""
    limit = (operation.route or operation.event).limit
    weight = len(json_codec.encode(answer)) // WEIGHT if operation.weighs else 0
    if (cost := operation.cost) is None:
        return [(limit, 1 + weight)]
    tokens = cost.of(parse(operation.request, dict(payload)))
    if cost.apart is not None:
        return [(limit, 1 + weight), (cost.apart, tokens)]
    return [(limit, 1 + tokens + weight)]


def _api(http: aiohttp.ClientSession, run: Run, caller: int) -> Api:
    headers = bearer(caller)
    return Api(http, run.origin, lambda: headers)


Ask = Callable[[Mapping[str, Any]], Any]


def _by_rest(api: Api, operation: Operation) -> Ask:
    route = operation.route

    async def ask(payload: Mapping[str, Any]) -> Any:
        rest = {key: of for key, of in payload.items() if f"{{{key}}}" not in route.path}
        path = route.path.removeprefix("/api").format(**payload)
        if route.method in ("GET", "DELETE"):
            query = "&".join(f"{key}={of}" for key, of in rest.items())
            return await api.ask(route.method, f"{path}?{query}")
        return await api.ask(route.method, path, rest)

    return ask


def _by_event(socket: Socket, operation: Operation) -> Ask:
    name = operation.event.name
    return lambda payload: socket.call(name, payload)
