"""The scenarios asked for, each with both servers in turns, and a table of each on stdout."""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from . import cluster, scenarios, transport, webhooks
from .nodes import PORTS, Nodes, Server
from .process import CPUS, LOAD_CPU
from .run import Row, Run
from .table import table
from .transport import Transport

BUILD = Path("build/bench").absolute()
"""Where scripts/bench has put the load generator and the peer."""
Turns = Iterator[tuple[str, str, Row]]
"""(case, server, row)"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", epilog="See docs/benchmarks.md.")
    known = [
        *scenarios.scenarios(0),
        *transport.scenarios(0),
        "webhooks",
        *cluster.scenarios(),
    ]
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(known)}; all without any")
    parser.add_argument("--rounds", type=int, default=3, help="of each server, in turns (3)")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (10)")
    parser.add_argument("--clients", type=int, default=2000, help="of idle and connections (2000)")
    parser.add_argument("--against", choices=["node", "none"], default="node")
    parser.add_argument("--beside", type=Path, help="another tree of this project, measured too")
    parser.add_argument("--ports", type=int, default=21300, help=f"first of {PORTS} (21300)")
    asked = parser.parse_args()
    if unknown := set(asked.scenario) - set(known):
        parser.error(f"there is no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    if len(CPUS) < 2:
        raise SystemExit("This needs two CPUs: one for the server, one for load and database.")
    must_be_free(range(asked.ports, asked.ports + PORTS))

    for end in (signal.SIGINT, signal.SIGTERM):  # on the way out, all that was started is stopped
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
                    partial(joined[name].round, nodes),
                    asked,
                    ratios=joined[name].ratios,
                )
                continue
            scenario = all_there_are[name]
            if isinstance(scenario, transport.Scenario):
                bad += measure(scenario.title, partial(scenario.round, rooms), asked)
            else:
                bad += measure(scenario.title, partial(scenario.round, runs), asked)
    if bad:
        raise SystemExit(f"{bad} acks, deliveries or pages were wrong: the figures mean nothing.")


def servers(asked: argparse.Namespace) -> dict[str, list[str]]:
    """The last is what the others are compared with; so it is below."""
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
    """Python with the server of a tree, and the benchmark of this one."""
    path = f"PYTHONPATH={tree.absolute()}:{Path('scripts').absolute()}"
    return ["env", path, sys.executable, "-P", "-m"]  # -P: or the folder we are in comes first


def must_be_free(ports: Iterable[int]) -> None:
    """Somebody else's database or server must not be what is measured."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise SystemExit(f"Port {port} is taken: choose others with --ports.") from error


def measure(
    title: str,
    round_of: Callable[[float], Turns],
    asked: argparse.Namespace,
    *,
    ratios: bool = True,
) -> int:
    """Print the scenario's table; answers how much was wrong."""
    cases: dict[str, dict[str, list[Row]]] = {}
    for n in range(asked.rounds):
        sys.stderr.write(f"Round {n + 1} of {asked.rounds}\n")
        for case, server, row in round_of(asked.seconds):
            cases.setdefault(case, {}).setdefault(server, []).append(row)
    sys.stdout.write(table(title, cases, ratios=ratios) + "\n")
    sys.stdout.flush()
    return int(sum(row["bad"] for case in cases.values() for rows in case.values() for row in rows))


if __name__ == "__main__":
    main()
