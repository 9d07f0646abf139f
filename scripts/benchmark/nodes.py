"""Several nodes of one server, connected by Redis, and the load generator."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from .mongod import start_mongod
from .process import LOAD_CPU, SERVER_CPU, Process, until
from .run import ask, healthy
from .seed import SECRETS, seed, token

MOST = 4
PORTS = 2 + 2 * MOST


@dataclass(frozen=True)
class Server:
    """The command and the environment of a node, which also gets REDIS_URL, WS_PORT and PORT.

    `stores`: True for a chat server with a database, False for an application of `rooms`.
    `deflate`: True if clients offer per-message deflate.
    """

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    stores: bool = False
    deflate: bool = True


@dataclass(frozen=True)
class Cost:
    """The answer of what was measured, such as a phase of the load generator, and the CPU seconds of each node, Redis and the database."""

    answer: Mapping[str, Any]
    nodes: Sequence[float]
    redis: float
    mongod: float


class Nodes:
    """`with Nodes(...) as nodes:` — the processes live as long as the block.

    The nodes share the first CPU. Redis, the database and the load generator share the last CPU.
    `ports`: the first of PORTS: mongod, Redis, then REST and Socket.IO of each node. `groups`: for each
    conversation, the node numbers of its members. Every member is a separate user with one connection.
    """

    def __init__(
        self,
        server: Server,
        groups: Sequence[Sequence[int]],
        *,
        count: int,
        load: Path,
        work: Path,
        ports: int,
    ) -> None:
        self._server, self._groups, self._count = server, groups, count
        self._load, self._folder = load, work / "nodes"
        self._mongo_port, self._redis_port, *rest = range(ports, ports + PORTS)
        self._ports = list(zip(rest[::2], rest[1::2], strict=True))[:count]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder.mkdir()
            stack.callback(shutil.rmtree, self._folder)
            self._start_redis(stack)
            self._mongod = None
            if self._server.stores:
                self._mongod, _ = start_mongod(stack, self._folder, self._mongo_port)
            self._nodes = [
                self._start_node(stack, number, *ports) for number, ports in enumerate(self._ports)
            ]
            rest, sockets = self._ports[0]
            log = self._folder / "load.log"
            command = [str(self._load), str(sockets), str(rest)]
            self._loader = Process(command, cpu=LOAD_CPU, log=log, talks=True)
            stack.callback(self._loader.stop)
            if self._server.deflate:
                self._loader.tell("offer")
            self._plan()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_redis(self, stack: ExitStack) -> None:
        command = [
            *("redis-server", "--bind", "127.0.0.1", "--port", str(self._redis_port)),
            *("--save", "", "--dir", str(self._folder)),
        ]
        self._redis = Process(command, cpu=LOAD_CPU, log=self._folder / "redis.log")
        stack.callback(self._redis.stop)
        until(lambda: _listens(self._redis_port), self._redis)

    def _start_node(self, stack: ExitStack, number: int, rest: int, sockets: int) -> Process:
        env = {
            **SECRETS,
            **self._server.env,
            "HOST": "127.0.0.1",
            "PORT": str(rest),
            "WS_PORT": str(sockets),
            "MONGO_URL": f"mongodb://127.0.0.1:{self._mongo_port}/?replicaSet=bench",
            "REDIS_URL": f"redis://127.0.0.1:{self._redis_port}",
            "RATE_LIMITS": "off",
            "SOCKETS_PER_USER": "0",
            "LOG_LEVEL": "warning",
            "NODE_ENV": "production",
        }
        log = self._folder / f"node{number}.log"
        node = Process(self._server.command, cpu=SERVER_CPU, log=log, env=env)
        stack.callback(node.stop)
        if self._server.stores:
            until(lambda: healthy(f"http://127.0.0.1:{rest}"), node)
        until(lambda: _listens(sockets), node)
        return node

    def _plan(self) -> None:
        numbers = list(_numbered(self._groups))
        users = sum(map(len, self._groups))
        if self._server.stores:
            ids = asyncio.run(seed(self.origin, users, numbers))
        else:
            ids = [f"room{number:03}" for number in range(len(numbers))]
        self.ids = ids
        """The conversation of each group."""
        for name, group, members in zip(ids, self._groups, numbers, strict=True):
            for node, member in zip(group, members, strict=True):
                self._loader.tell(f"at {self._ports[node][1]}")
                self._loader.tell(f"user {token(member) if self._server.stores else name}")
            self._loader.tell(f"conversation {name} {' '.join(map(str, members))}")

    @property
    def origin(self) -> str:
        """The REST API of the first node."""
        return f"http://127.0.0.1:{self._ports[0][0]}"

    def memory_kb(self) -> float:
        """Returns the resident memory of all nodes."""
        return sum(node.memory_kb() for node in self._nodes)

    def tell(self, line: str) -> None:
        self._loader.tell(line)

    def connect(self) -> None:
        if ask(self._loader, "connect 64")["bad"]:
            raise SystemExit("The clients could not connect, so there is nothing to measure.")

    def do(self, phase: str) -> Cost:
        return self.cost_of(partial(ask, self._loader, phase))

    def cost_of(self, work: Callable[[], Mapping[str, Any]]) -> Cost:
        before = self._cpu()
        answer = work()
        *nodes, redis, mongod = (
            after - earlier for after, earlier in zip(self._cpu(), before, strict=True)
        )
        return Cost(answer, nodes, redis, mongod)

    def _cpu(self) -> list[float]:
        mongod = self._mongod.cpu_seconds() if self._mongod else 0.0
        nodes = [node.cpu_seconds() for node in self._nodes]
        return [*nodes, self._redis.cpu_seconds(), mongod]


def _numbered(groups: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    first = 0
    for group in groups:
        yield list(range(first, first + len(group)))
        first += len(group)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False
