"""One server on a new database, and the load generator."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .mongod import start_mongod
from .process import LOAD_CPU, SERVER_CPU, Process, until
from .seed import SECRETS, seed, token

BACKGROUND = {"hello", "isMaster", "ping", "serverStatus", "buildInfo", "replSetHeartbeat"}
"""Commands of drivers, the database and this script, which do not depend on the number of clients."""


Row = dict[str, float]
"""A figure per column."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The load generator's answer to a phase, and the phase's cost: CPU in seconds, commands to mongod.

    `relay`: the server's child, if it has one. `server` does not include it.
    """

    answer: Mapping[str, Any]
    server: float
    relay: float
    mongod: float
    load: float
    commands: int


class Run:
    """`with Run(...) as run:` — the processes live as long as the block.

    `ports`: the first of five: mongod, REST, Socket.IO, the load generator as a webhook endpoint, and a
    separate relay. `work`: a folder for the database and the logs, emptied at the end. `webhook_relay`:
    WEBHOOK_RELAY of a server with that endpoint; empty: no endpoint.
    """

    def __init__(
        self,
        command: Sequence[str],
        load: Path,
        work: Path,
        ports: int,
        webhook_relay: str = "",
    ) -> None:
        self._command, self._load, self.folder = command, load, work / "run"
        self._mongo_port, self._rest_port, self._ws_port, self._hook_port, self._relay_port = range(
            ports, ports + 5
        )
        self.origin = f"http://127.0.0.1:{self._rest_port}"
        self.sockets = f"http://127.0.0.1:{self._ws_port}"
        self._endpoint = f"http://127.0.0.1:{self._hook_port}"
        self._env = {
            **SECRETS,
            "HOST": "127.0.0.1",
            "PORT": str(self._rest_port),
            "WS_PORT": str(self._ws_port),
            "MONGO_URL": f"mongodb://127.0.0.1:{self._mongo_port}/?replicaSet=bench",
            "RATE_LIMITS": "off",
            "SOCKETS_PER_USER": "0",
            "LOG_LEVEL": "warning",
            "NODE_ENV": "production",
        }
        if webhook_relay:
            self._env |= {"WEBHOOK_URL": f"{self._endpoint}/chat", "WEBHOOK_RELAY": webhook_relay}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder.mkdir()
            stack.callback(shutil.rmtree, self.folder)
            self._start_mongod(stack)
            self._start_server(stack)
            ports = [str(self._ws_port), str(self._rest_port)]
            log = self.folder / "load.log"
            self.load = Process([str(self._load), *ports], cpu=LOAD_CPU, log=log, talks=True)
            stack.callback(self.load.stop)
            self.load.tell("offer")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_mongod(self, stack: ExitStack) -> None:
        self.mongod, self._admin = start_mongod(stack, self.folder, self._mongo_port)

    def _start_server(self, stack: ExitStack) -> None:
        log = self.folder / "server.log"
        self.server = Process(self._command, cpu=SERVER_CPU, log=log, env=self._env)
        stack.callback(self.server.stop)
        until(lambda: healthy(self.origin, "/ready") and healthy(self.sockets), self.server)
        if self._env.get("WEBHOOK_RELAY") == "on":
            until(lambda: bool(self.server.having("relay")), self.server)
            for pid in self.server.having("relay"):  # so that the server has its CPU to itself
                os.sched_setaffinity(pid, {LOAD_CPU})

    def restart_server(self) -> None:
        """Restarts the server, to drop the memory and caches left from seeding."""
        self.server.stop()
        self._start_server(self._stack)

    def seed(self, users: int, groups: Sequence[Sequence[int]]) -> list[str]:
        """Creates the users and a conversation per group, and registers them with the load generator."""
        ids = asyncio.run(seed(self.origin, users, groups))
        for number in range(users):
            self.load.tell(f"user {token(number)}")
        for conversation, group in zip(ids, groups, strict=True):
            self.load.tell(f"conversation {conversation} {' '.join(map(str, group))}")
        return ids

    def receive(self, file: Path | None = None) -> None:
        """Makes the load generator the endpoint `/chat`. The bodies go to `file`, one per line."""
        self.load.tell(f"receive {self._hook_port} {file or '-'}")

    def relay(self) -> AbstractContextManager[Process]:
        """Runs a separate relay. Only for a server whose command ends with `serve`."""
        return self._beside("relay", [*self._command[:-1], "relay"])

    def bare(self, file: Path) -> AbstractContextManager[Process]:
        """Runs a client that posts the bodies in `file` to a path that ignores them."""
        command = [sys.executable, "-m", "benchmark.bare", f"{self._endpoint}/bare", str(file)]
        return self._beside("bare", command)

    @contextmanager
    def _beside(self, name: str, command: Sequence[str]) -> Iterator[Process]:
        env = {**self._env, "PORT": str(self._relay_port)}
        process = Process(command, cpu=SERVER_CPU, log=self.folder / f"{name}.log", env=env)
        try:
            yield process
        finally:
            process.stop()

    def due(self) -> int:
        """Returns the number of events that wait for delivery."""
        return sum(
            self._admin["chat"][name].count_documents({"due": {"$exists": True}})
            for name in ("log", "outbox")
        )

    def do(self, phase: str) -> Measured:
        commands, before = self._commands(), self.cpu()
        answer = ask(self.load, phase)
        after = self.cpu()
        return Measured(
            answer=answer,
            commands=self._commands() - commands,
            **{name: after[name] - before[name] for name in before},
        )

    def cpu(self) -> dict[str, float]:
        """Returns the CPU seconds of each process so far."""
        relay = self.server.cpu_seconds("relay")
        return {
            "server": self.server.cpu_seconds() - relay,
            "relay": relay,
            "mongod": self.mongod.cpu_seconds(),
            "load": self.load.cpu_seconds(),
        }

    def _commands(self) -> int:
        counts = self._admin.admin.command("serverStatus")["metrics"]["commands"]
        return sum(
            int(of["total"])
            for name, of in counts.items()
            if isinstance(of, dict) and name not in BACKGROUND
        )


def ask(load: Process, phase: str) -> Mapping[str, Any]:
    answer: Mapping[str, Any] = json.loads(load.ask(phase))
    if answer["bad"]:
        sys.stderr.write(f"{phase}: {answer['bad']} errors, first: {answer['complaint']}\n")
    return answer


Start = Callable[..., Run]
"""Returns a Run of one server. Takes `webhook_relay`."""


def healthy(origin: str, probe: str = "/health") -> bool:
    with (
        suppress(OSError),
        urllib.request.urlopen(origin + probe, timeout=5) as answer,  # noqa: S310  our own
    ):
        return bool(answer.status == 200)
    return False
