"""Clients of a RealtimeServer connect, are refused, and disconnect, and its application stops."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import aiohttp
import pytest

from chatserver.realtime import RealtimeServer
from tests.support.echo import Raw, closed, engine, realtime, serving
from tests.support.raw import RESTARTS, when


async def test_events_for_a_connecting_client_follow_its_connect(
    session: aiohttp.ClientSession,
) -> None:
    """A refused client receives no event, even if it had entered a room."""
    sio = RealtimeServer()
    let_in = asyncio.Event()
    said: list[str] = []

    @sio.event
    async def connect(sid: str, environ: dict[str, Any], auth: dict[str, bool]) -> bool:
        await sio.enter_room(sid, "room")
        await sio.emit("welcome", to=sid)
        await sio.emit("ready?", to=sid, callback=said.append)
        await let_in.wait()
        if auth.get("fails"):
            raise ValueError("an error in the handler")
        return auth["ok"]

    async with serving(sio) as url:
        raw = Raw(url, session)
        async with raw.websocket() as good, raw.websocket() as bad, raw.websocket() as broken:
            for websocket, auth in ((good, {"ok": True}), (bad, {"ok": False}), (broken, {"fails": True})):  # fmt: skip
                await websocket.receive_str()
                await websocket.send_str("40" + json.dumps(auth))
                await websocket.send_str('42["early"]')
            await when(lambda: len(list(sio.manager.get_participants("/", "room"))) == 3)
            await sio.emit("news", room="room")
            await sio.emit("news for all")
            let_in.set()
            assert re.fullmatch(r'40\{"sid":".+"\}', await good.receive_str())
            heard = [await good.receive_str() for _ in range(4)]
            assert heard == ['42["welcome"]', '421["ready?"]', '42["news"]', '42["news for all"]']
            await good.send_str('431["yes"]')
            await when(lambda: said == ["yes"])
            assert await bad.receive_str() == '44{"message":"Connection rejected by server"}'
            assert await broken.receive_str() == '44{"message":"Internal error"}'
            await sio.emit("afterwards")
            assert await good.receive_str() == '42["afterwards"]'
            for websocket in (bad, broken):
                with pytest.raises(TimeoutError):
                    await websocket.receive(timeout=0.05)


async def test_a_client_that_disconnects_while_connecting_is_not_kept(
    session: aiohttp.ClientSession,
) -> None:
    sio = RealtimeServer()
    let_in = asyncio.Event()
    came: list[str] = []
    went: list[str] = []

    @sio.event
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        came.append(sid)
        await let_in.wait()

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        went.append(sid)

    async with serving(sio) as url:
        polls = Raw(url, session)
        await polls.open()
        await polls.post("40")
        async with Raw(url, session).websocket() as websocket:
            await websocket.receive_str()
            await websocket.send_str("40")
            await when(lambda: len(came) == 2)
            assert await polls.post("1") == (200, "ok")
        let_in.set()
        await when(lambda: len(went) == 2)
    assert sorted(went) == sorted(came)
    assert (sio.manager.rooms, sio.eio.sockets, sio.environ) == ({}, {}, {})


async def test_an_application_that_stops_does_not_wait_for_its_clients(
    session: aiohttp.ClientSession,
) -> None:
    for server in (realtime(), engine()):
        async with serving(server) as url:
            websocket = await Raw(url, session).websocket()
            await websocket.receive_str()
            polls = Raw(url, session)
            await polls.open()
            poll = asyncio.create_task(polls.get())
            await asyncio.sleep(0.02)
            ended = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - ended < 0.9
        assert await closed(websocket) == RESTARTS
        assert await poll == (200, "1")


async def test_an_application_that_stops_runs_its_disconnect_handlers_first(
    session: aiohttp.ClientSession,
) -> None:
    sio = RealtimeServer()
    went: list[str] = []

    @sio.event
    async def connect(sid: str, environ: dict[str, Any]) -> None: ...

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        await asyncio.sleep(0.1)
        went.append(sid)

    async with serving(sio) as url:
        websocket = await Raw(url, session).websocket()
        await websocket.receive_str()
        await websocket.send_str("40")
        await websocket.receive_str()
        assert went == []
    assert len(went) == 1
