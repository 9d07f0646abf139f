"""Tries a token at the doors."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import socketio

from .people import ask
from .servers import ChatServer
from .shapes import error


async def tried(server: ChatServer, given: str, scheme: str = "Bearer") -> tuple[int, Any]:
    """Returns the response to the token over REST. A socket must get the same result."""
    async with aiohttp.ClientSession() as session:
        status, answer = await ask(
            session,
            "GET",
            f"{server.rest}/api/conversations",
            None,
            {"Authorization": f"{scheme} {given}"},
        )
    assert await tried_by_socket(server, given) == answer.get("error", {}).get("code", "OK")
    return status, answer


async def tried_by_socket(server: ChatServer, given: Any) -> str:
    client = socketio.AsyncClient(reconnection=False)
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    client.on("connect", lambda: outcome.set_result(None))
    client.on("connect_error", outcome.set_result)
    try:
        await client.connect(
            server.sockets, auth={"token": given}, transports=["websocket"], wait=False
        )
        refusal = await asyncio.wait_for(outcome, 5)
    finally:
        await client.disconnect()
    if refusal is None:
        return "OK"
    shape = refusal["data"]
    assert shape == error(shape["code"])
    return str(shape["code"])
