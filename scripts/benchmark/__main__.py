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
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from . import scenarios, webhooks
from .run import CPUS, LOAD_CPU, PORTS, Row, Run, Start
from .scenarios import Scenario
from .table import table

BUILD = Path("build/bench").absolute()
"""Where scripts/bench has put the load generator and the peer."""
SCENARIOS: dict[str, Scenario | webhooks.Webhooks] = {
    **scenarios.SCENARIOS,
    "webhooks": webhooks.Webhooks(),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", epilog="See docs/benchmarks.md.")
    known = list(SCENARIOS)
    parser.add_argument("scenario", nargs="*", help=f"of {', '.join(known)}; all without any")
    parser.add_argument("--rounds", type=int, default=3, help="of each server, in turns (3)")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (10)")
    parser.add_argument("--against", choices=["node", "none"], default="node")
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

    own = f"{shlex.quote(str(Path(sys.executable).with_name('chatserver')))} serve"
    servers = {"chatserver": shlex.split(os.environ.get("CHATSERVER", own))}
    if asked.against == "node":
        servers["node"] = ["node", str(BUILD / "peer" / "server.mjs")]
    with tempfile.TemporaryDirectory(prefix="chatserver-bench-") as work:
        start = partial(Run, load=BUILD / "load", work=Path(work), ports=asked.ports)
        runs: dict[str, Start] = {
            name: partial(start, command) for name, command in servers.items()
        }
        wanted = [SCENARIOS[name] for name in asked.scenario or known]
        bad = sum(measure(each, runs, asked.rounds, asked.seconds) for each in wanted)
    if bad:
        raise SystemExit(f"{bad} acks, deliveries or pages were wrong: the figures mean nothing.")


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
    scenario: Scenario | webhooks.Webhooks, servers: dict[str, Start], rounds: int, seconds: float
) -> int:
    """Print the scenario's table; answers how much was wrong."""
    cases: dict[str, dict[str, list[Row]]] = {}
    for n in range(rounds):
        sys.stderr.write(f"Round {n + 1} of {rounds}\n")
        for case, server, row in scenario.round(servers, seconds):
            cases.setdefault(case, {}).setdefault(server, []).append(row)
    sys.stdout.write(table(scenario.title, cases) + "\n")
    sys.stdout.flush()
    return int(sum(row["bad"] for case in cases.values() for rows in case.values() for row in rows))


if __name__ == "__main__":
    main()
