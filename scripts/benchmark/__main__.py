"""Runs the requested scenarios with both servers in turns, and prints a table of each scenario."""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from . import cluster, scenarios, transport, webhooks
from .nodes import PORTS, Nodes, Server
from .process import CPUS, LOAD_CPU
from .run import Row, Run
from .table import table
from .transport import Transport

BUILD = Path("build/bench").absolute()
"""The folder in which scripts/bench has put the load generator and the peer."""
Turns = Iterator[tuple[str, str, Row]]
"""(case, server, row)"""
Start = TypeVar("Start")
"""Starts a server."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", epilog="See docs/benchmarks.md.")
    known = [
        *scenarios.scenarios(0),
        *transport.scenarios(0),
        "webhooks",
        *cluster.scenarios(),
    ]
    parser.add_argument("scenario", nargs="*", help=f"one or more of {', '.join(known)} (all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each server, in turns (3)")
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement (10)")
    parser.add_argument(
        "--clients",
        type=int,
        default=2000,
        help="clients in the scenarios idle and connections (2000)",
    )
    parser.add_argument("--against", choices=["node", "none"], default="node")
    parser.add_argument(
        "--beside", type=Path, help="another tree of this project, to measure as well"
    )
    parser.add_argument("--ports", type=int, default=21300, help=f"first of {PORTS} ports (21300)")
    asked = parser.parse_args()
    if unknown := set(asked.scenario) - set(known):
        parser.error(f"unknown scenario {', '.join(unknown)}; choose from {', '.join(known)}")
    if len(CPUS) < 2:
        raise SystemExit("This needs two CPUs: one for the server, one for load and database.")
    must_be_free(range(asked.ports, asked.ports + PORTS))

    for end in (signal.SIGINT, signal.SIGTERM):  # sys.exit stops every process that was started
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {LOAD_CPU})

    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as work:
        start = partial(Run, load=BUILD / "load", work=Path(work), ports=asked.ports)
        alone = partial(Transport, load=BUILD / "load", work=Path(work), port=asked.ports)
        runs = {name: partial(start, command) for name, command in servers(asked).items()}
        rooms = {name: partial(alone, command) for name, command in room_servers(asked).items()}
        many = partial(Nodes, load=BUILD / "load", work=Path(work), ports=asked.ports)
        nodes = {name: partial(many, server) for name, server in clusters(asked).items()}
        joined = cluster.scenarios()
        all_there_are: dict[str, scenarios.Scenario | transport.Scenario | webhooks.Webhooks] = {
            **scenarios.scenarios(asked.clients),
            **transport.scenarios(asked.clients),
            "webhooks": webhooks.Webhooks(),
        }
        bad = 0
        for name in asked.scenario or known:
            if name in joined:
                bad += measure(
                    joined[name].title,
                    joined[name].round,
                    nodes,
                    asked,
                    ratios=joined[name].ratios,
                )
                continue
            scenario = all_there_are[name]
            if isinstance(scenario, transport.Scenario):
                bad += measure(scenario.title, scenario.round, rooms, asked)
            else:
                bad += measure(scenario.title, scenario.round, runs, asked)
    if bad:
        raise SystemExit(f"{bad} acks, deliveries or pages were wrong, so the figures are invalid.")


def servers(asked: argparse.Namespace) -> dict[str, list[str]]:
    """Commands by name. The others are compared with the last one, here and in the functions below."""
    own = f"{shlex.quote(str(Path(sys.executable).with_name('chatserver')))} serve"
    commands = {"chatserver": shlex.split(os.environ.get("CHATSERVER", own))}
    if asked.beside:
        commands["beside"] = [*python_in(asked.beside), "chatserver", "serve"]
    if asked.against == "node":
        commands["node"] = ["node", str(BUILD / "peer" / "server.mjs")]
    return commands


def room_servers(asked: argparse.Namespace) -> dict[str, list[str]]:
    app = "benchmark.rooms.server"
    commands = {"realtime": [*python_in(Path()), app, "realtime"]}
    if asked.beside:
        commands["beside"] = [*python_in(asked.beside), app, "realtime"]
    commands[transport.STOCK] = [*python_in(Path()), app, "stock"]
    commands[transport.BARE] = [str(BUILD / "rooms")]
    if asked.against == "node":
        commands["node"] = ["node", str(BUILD / "peer" / "rooms.mjs")]
    return commands


def clusters(asked: argparse.Namespace) -> dict[str, Server]:
    chats = {name: command for name, command in servers(asked).items() if name != "node"}
    joined = {name: Server(command, stores=True) for name, command in chats.items()}
    apps = room_servers(asked)
    joined[transport.STOCK] = Server(apps[transport.STOCK], deflate=False)
    if asked.against == "node":
        for adapter in ("redis", "sharded", "streams"):
            joined[f"node {adapter}"] = Server(apps["node"], {"ADAPTER": adapter})
    return joined


def python_in(tree: Path) -> list[str]:
    """Returns a command that runs Python with the server of `tree` and the benchmark of this tree."""
    path = f"PYTHONPATH={tree.absolute()}:{Path('scripts').absolute()}"
    return ["env", path, sys.executable, "-P", "-m"]  # -P: otherwise the current folder comes first


def must_be_free(ports: Iterable[int]) -> None:
    """Exits if a port is in use, so that no other database or server is measured by mistake."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise SystemExit(f"Port {port} is taken: choose others with --ports.") from error


def measure(
    title: str,
    round_of: Callable[[Mapping[str, Start], float], Turns],
    servers: Mapping[str, Start],
    asked: argparse.Namespace,
    *,
    ratios: bool = True,
) -> int:
    """Prints the scenario's table. Returns the number of errors.

    Each round starts with another server: measured against itself, a server was 10 % dearer in one place of the
    order than in the next.
    """
    cases: dict[str, dict[str, list[Row]]] = {}
    order = deque(servers.items())
    for n in range(asked.rounds):
        sys.stderr.write(f"Round {n + 1} of {asked.rounds}\n")
        for case, server, row in round_of(dict(order), asked.seconds):
            cases.setdefault(case, {}).setdefault(server, []).append(row)
        order.rotate(-1)
    sys.stdout.write(table(title, cases, ratios=ratios) + "\n")
    sys.stdout.flush()
    return int(sum(row["bad"] for case in cases.values() for rows in case.values() for row in rows))


if __name__ == "__main__":
    main()
