"""Tries a token at the doors."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import socketio

from .people import ask
from .servers import ChatServer
from .shapes import error


async def over_rest(server: ChatServer, given: str, scheme: str = "Bearer") -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        return await ask(
            session,
            "GET",
            f"{server.rest}/api/conversations",
            None,
            {"Authorization": f"{scheme} {given}"},
        )


async def tried(server: ChatServer, given: str, scheme: str = "Bearer") -> tuple[int, Any]:
    """Returns the response to the token over REST. A socket must get the same result."""
    status, answer = await over_rest(server, given, scheme)
    refusal = answer.get("error")
    assert await refusal_of_socket(server, given) == (
        error(refusal["code"], **{key: refusal[key] for key in refusal if key == "details"})
        if refusal
        else None
    )
    return status, answer


async def tried_by_socket(server: ChatServer, given: Any) -> str:
    refusal = await refusal_of_socket(server, given)
    return "OK" if refusal is None else str(refusal["code"])


async def refusal_of_socket(server: ChatServer, given: Any) -> Any:
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
    return refusal and refusal["data"]
