"""Debian's load balancers in front of two nodes, with the configuration that this project ships."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from .patience import PATIENCE_S
from .servers import ROOT, ChatServer, free_port

PROXIES = ("haproxy", "nginx")


class Proxy:
    """A running balancer. People use it as their server."""

    def __init__(self, name: str, folder: Path, nodes: tuple[ChatServer, ChatServer]) -> None:
        self.name = name
        self.nodes = nodes
        self.clients_port, self.master_port = free_port(), free_port()
        self.config = folder / f"{name}.conf"
        self.log_path = folder / f"{name}.log"
        self.process: asyncio.subprocess.Process
        render = {"haproxy": self._haproxy, "nginx": self._nginx}[name]
        self.config.write_text(render((ROOT / "config" / SHIPPED[name]).read_text()))

    @property
    def sockets(self) -> str:
        return f"http://127.0.0.1:{self.clients_port}"

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.master_port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    async def start(self) -> None:
        command = {
            "haproxy": ["haproxy", "-db", "-f", str(self.config)],
            "nginx": [
                "nginx",
                "-p",
                f"{self.config.parent}/",
                "-c",
                str(self.config),
                "-e",
                "stderr",
            ],
        }[self.name]
        path = f"{os.environ['PATH']}:/usr/sbin"
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, env={"PATH": path}, stdout=log, stderr=log
            )
        async with aiohttp.ClientSession() as session:
            end = time.monotonic() + PATIENCE_S
            while True:
                assert self.process.returncode is None, self.log
                assert time.monotonic() < end, self.log
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(self.sockets):
                        return
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), 10)

    def _haproxy(self, text: str) -> str:
        for name, node in zip("ab", self.nodes, strict=True):
            # In production all nodes have the same ports and different addresses.
            checked = f"127.0.0.1:{node.ws_port} port {node.port}"
            text = _put(text, f"chat-{name}:3001", checked, 2)
            text = _put(text, f"chat-{name}:3000", f"127.0.0.1:{node.port}", 1)
        text = _put(text, "maxconn 20000", "maxconn 1000", 1)
        text = _put(text, "bind :8080", f"bind 127.0.0.1:{self.clients_port}", 1)
        return _put(text, "bind :8081", f"bind 127.0.0.1:{self.master_port}", 1)

    def _nginx(self, text: str) -> str:
        for name, node in zip("ab", self.nodes, strict=True):
            text = _put(text, f"chat-{name}:3001", f"127.0.0.1:{node.ws_port}", 2)
            text = _put(text, f"chat-{name}:3000", f"127.0.0.1:{node.port}", 1)
        text = _put(text, "worker_rlimit_nofile 40000", "worker_rlimit_nofile 2000", 1)
        text = _put(text, "worker_connections 20000", "worker_connections 1000", 1)
        text = _put(text, "listen 8080;", f"listen 127.0.0.1:{self.clients_port};", 1)
        text = _put(text, "listen 8081;", f"listen 127.0.0.1:{self.master_port};", 1)
        # It writes only to its own folder, so that it need not run as root.
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"    {kind}_temp_path {self.config.parent}/{kind};\n" for kind in kinds)
        text = _put(text, "http {\n", f"http {{\n{paths}", 1)
        main = f"daemon off;\npid {self.config.parent}/nginx.pid;\n"
        return ("user root;\n" if os.geteuid() == 0 else "") + main + text


SHIPPED = {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}


def _put(text: str, old: str, new: str, times: int) -> str:
    assert text.count(old) == times, (old, text.count(old))
    return text.replace(old, new)


@asynccontextmanager
async def proxy(
    name: str, folder: Path, nodes: tuple[ChatServer, ChatServer]
) -> AsyncIterator[Proxy]:
    balancer = Proxy(name, folder, nodes)
    try:
        await balancer.start()
        yield balancer
    finally:
        await balancer.stop()
    assert not re.search(r"\[(ALERT|emerg|alert|crit)\]", balancer.log), balancer.log[-4000:]
