"""Measures the cost of rooms and connections without a chat, with the small servers of `rooms` in turns."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from .process import LOAD_CPU, SERVER_CPU, Process, until
from .run import Measured, Row, ask
from .scenarios import MESSAGE_BYTES, PING_INTERVAL_S, WARM_S, held

STOCK, BARE = "stock", "bare C"
ROOM = "r"
IN_ROOM = 10


class Transport:
    """`with Transport(...) as run:` — one of those servers, and the load generator."""

    def __init__(self, command: Sequence[str], load: Path, work: Path, port: int) -> None:
        self._command, self._load, self._folder, self._port = command, load, work / "run", port

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder.mkdir()
            stack.callback(shutil.rmtree, self._folder)
            env = {"WS_PORT": str(self._port), "NODE_ENV": "production"}
            log = self._folder / "server.log"
            self.server = Process(self._command, cpu=SERVER_CPU, log=log, env=env)
            stack.callback(self.server.stop)
            until(self._listens, self.server)
            ports = [str(self._port)] * 2
            log = self._folder / "load.log"
            self.load = Process([str(self._load), *ports], cpu=LOAD_CPU, log=log, talks=True)
            stack.callback(self.load.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5):
            return True
        return False

    def room(self, name: str, members: range) -> None:
        for _ in members:
            self.load.tell(f"user {name}")
        self.load.tell(f"conversation {name} {' '.join(map(str, members))}")

    def do(self, phase: str) -> Measured:
        server, load = self.server.cpu_seconds(), self.load.cpu_seconds()
        answer = ask(self.load, phase)
        return Measured(
            answer=answer,
            server=self.server.cpu_seconds() - server,
            load=self.load.cpu_seconds() - load,
            relay=0,
            mongod=0,
            commands=0,
        )


Start = Callable[[], Transport]


@dataclass(frozen=True)
class Scenario:
    title: str
    cases: Mapping[str, Callable[[Transport, float], Row]]
    without: frozenset[str] = frozenset()
    """Servers that it does not measure."""

    def round(self, servers: Mapping[str, Start], seconds: float) -> Iterator[tuple[str, str, Row]]:
        """Runs each server once in each case."""
        for case, drive in self.cases.items():
            for name, start in servers.items():
                if name in self.without:
                    continue
                sys.stderr.write(f"{self.title}: {case}: {name}\n")
                with start() as run:
                    if name != STOCK:
                        # Stock python-socketio would compress each delivery; its peers compress none.
                        run.load.tell("offer")
                    yield case, name, drive(run, seconds)


def in_room(members: int, in_flight: int) -> Callable[[Transport, float], Row]:
    def drive(run: Transport, seconds: float) -> Row:
        run.load.tell("spin")
        run.room(ROOM, range(members))
        for phase in ("connect 64", f"room {WARM_S} {in_flight} {MESSAGE_BYTES}"):
            if run.do(phase).answer["bad"]:
                raise SystemExit("The warm-up failed, so there is nothing to measure.")
        return deliveries(run.do(f"room {seconds} {in_flight} {MESSAGE_BYTES}"))

    return drive


def deliveries(measured: Measured) -> Row:
    answer = measured.answer
    return {
        "server µs": measured.server / max(answer["delivered"], 1) * 1e6,
        "deliveries/s": answer["delivered"] / answer["drained"],
        "server busy": measured.server / answer["drained"],
        "p50 ms": answer["heard50"],
        "p99 ms": answer["heard99"],
        "bad": answer["bad"],
    }


def connections(run: Transport, _: float, clients: int) -> Row:
    """Measures how fast clients connect, and the cost of idle connections."""
    for k in range(0, clients, IN_ROOM):
        run.room(f"{ROOM}{k}", range(k, min(k + IN_ROOM, clients)))
    empty = run.server.memory_kb()
    came = run.do("connect 64")
    run.do("idle 5")
    full = run.server.memory_kb()
    stayed = run.do(f"idle {PING_INTERVAL_S}")
    return {
        "connects/s": came.answer["ready"] / came.answer["seconds"],
        "server µs": came.server / clients * 1e6,
        "p99 ms": came.answer["p99"],
        **held(stayed, full - empty, clients),
        "bad": came.answer["bad"] + stayed.answer["bad"],
    }


def scenarios(clients: int) -> dict[str, Scenario]:
    """`clients`: the number of clients that connect and stay connected."""
    return {
        "fanout": Scenario(
            "fanout: one room, nothing stored",
            {
                "N=20, 4 under way": in_room(20, 4),
                "N=200, 4 under way": in_room(200, 4),
                "N=1000, 4 under way": in_room(1000, 4),
                "N=200, 32 under way": in_room(200, 32),
                "N=200, 1 under way": in_room(200, 1),
            },
        ),
        "connections": Scenario(
            f"connections: opened, 64 at a time, and then idle for {PING_INTERVAL_S} s",
            {f"{clients:,} clients": partial(connections, clients=clients)},
            without=frozenset({BARE}),
        ),
    }
