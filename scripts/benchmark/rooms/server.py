"""The same application on chatserver.realtime and on stock python-socketio, both on uvloop.

usage: python -m benchmark.rooms.server realtime|stock
With REDIS_URL, nodes of stock python-socketio share their rooms over Redis.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import orjson
import socketio
import uvloop
from aiohttp import web

from chatserver.realtime import RealtimeServer


class Json:
    """orjson, with the interface that python-socketio requires."""

    loads = staticmethod(orjson.loads)

    @staticmethod
    def dumps(data: Any, **_: Any) -> str:
        return orjson.dumps(data).decode()


KINDS = {"realtime": RealtimeServer, "stock": socketio.AsyncServer}


def time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def server(kind: str) -> socketio.AsyncServer:
    shared: dict[str, Any] = {}
    if url := os.environ.get("REDIS_URL"):
        shared["client_manager"] = socketio.AsyncRedisManager(url)
    sio = KINDS[kind](async_mode="aiohttp", json=Json, http_compression=False, **shared)
    seqs: Counter[str] = Counter()

    @sio.event
    async def connect(sid: str, _: dict[str, Any], auth: dict[str, str]) -> None:
        room = auth["token"]
        await sio.enter_room(sid, room)
        body = {"userId": sid, "socketId": sid, "rooms": [room], "timestamp": time()}
        await sio.emit("connected", body, to=sid)

    @sio.on("message:send")
    async def send(sid: str, request: dict[str, str]) -> dict[str, Any]:
        room, now = request["conversationId"], time()
        seqs[room] += 1
        seq = seqs[room]
        message = {
            "id": f"{seq:024x}",
            "conversationId": room,
            "seq": seq,
            "rev": seq,
            "senderId": sid,
            "content": request["content"],
            "attachments": [],
            "replyTo": None,
            "mentions": [],
            "metadata": {},
            "clientMessageId": request["clientMessageId"],
            "reactions": [],
            "isEdited": False,
            "isDeleted": False,
            "createdAt": now,
            "updatedAt": now,
            "deletedAt": None,
        }
        await sio.emit("message:new", message, room=room)
        return {"ok": True, "data": message}

    async def tell(sid: str, room: str, active: bool) -> None:
        body = {
            "conversationId": room,
            "userId": sid,
            "type": "typing",
            "isActive": active,
            "timestamp": time(),
        }
        await sio.emit("user:typing", body, room=room, skip_sid=sid)

    @sio.on("typing:start")
    async def start(sid: str, request: dict[str, str]) -> None:
        await tell(sid, request["conversationId"], True)

    @sio.on("typing:stop")
    async def stop(sid: str, request: dict[str, str]) -> None:
        await tell(sid, request["conversationId"], False)

    return sio


async def serve(kind: str) -> None:
    app = web.Application()
    server(kind).attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["WS_PORT"]), backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
