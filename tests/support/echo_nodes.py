"""An application on realtime/ as a process, whose clients can call the methods of its server.

    python -m tests.support.echo_nodes REDIS_URL PREFIX KEEP_FOR_S CALLBACK_S

It prints its URL when it listens. `do` calls a method of the server with keyword arguments, `ask` emits with
a callback and returns each acknowledgement as `answer`, and `told` returns the state of the node.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import socketio

from chatserver.realtime import RealtimeServer
from chatserver.realtime.redis_manager import RedisClientManager

from .echo import serving
from .forks import Fork
from .patience import PATIENCE_S

NAMESPACES = ("/", "/custom")


def application(
    url: str, prefix: str, keep_for_s: float, callback_timeout: float
) -> RealtimeServer:
    missed: list[None] = []
    clients = RedisClientManager(
        url,
        prefix=prefix,
        keep_for_s=keep_for_s,
        callback_timeout=callback_timeout,
        missed=lambda: missed.append(None),
    )
    sio = RealtimeServer(client_manager=clients)
    gone: list[str] = []

    def answer_in(namespace: str) -> None:
        async def connect(sid: str, environ: dict[str, Any]) -> None: ...

        async def disconnect(sid: str, reason: str) -> None:
            gone.append(f"{sid} {reason}")

        async def do(sid: str, what: str, options: dict[str, Any]) -> Any:
            try:
                return await getattr(sio, what)(**{"namespace": namespace, **options})
            except (ValueError, TypeError, socketio.exceptions.TimeoutError) as error:
                return repr(error)

        async def burst(sid: str, room: str, count: int) -> None:
            for number in range(count):
                await sio.emit("number", (sid, number), room=room, namespace=namespace)

        async def ask(sid: str, options: dict[str, Any]) -> None:
            async def answered(*data: Any) -> None:
                await sio.emit("answer", data, to=sid, namespace=namespace)

            await sio.emit(namespace=namespace, callback=answered, **options)

        def told(sid: str) -> dict[str, Any]:
            bus = clients.bus
            return {
                "up": bus.up,
                "received": bus.received,
                "dropped": bus.dropped,
                "missed": len(missed),
                "gone": gone,
            }

        for handler in (connect, disconnect, do, burst, ask, told):
            sio.on(handler.__name__, handler, namespace=namespace)

    for namespace in NAMESPACES:
        answer_in(namespace)
    return sio


class EchoNode:
    """A running node."""

    def __init__(
        self, log: Path, url: str, prefix: str, keep_for_s: float, callback_timeout: float
    ) -> None:
        self.log = log
        self.words = [url, prefix, f"{keep_for_s}", f"{callback_timeout}"]
        self.process: Fork
        self.url = ""

    async def start(self) -> None:
        self.process = Fork("tests.support.echo_nodes", self.words, {}, self.log)
        async with asyncio.timeout(PATIENCE_S):
            while not self.log.exists() or "\n" not in self.log.read_text():
                assert self.process.returncode is None, "it does not start"
                await asyncio.sleep(0.02)
        self.url = self.log.read_text().partition("\n")[0]

    async def stop(self) -> str:
        """Stop the process. Returns its output."""
        self.process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await self.process.wait()
        return self.log.read_text()


async def main(url: str, prefix: str, keep_for_s: str, callback_timeout: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(15, stop.set)
    sio = application(url, prefix, float(keep_for_s), float(callback_timeout))
    async with serving(sio) as address:
        print(address.removesuffix("/socket.io/"), flush=True)  # noqa: T201
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
