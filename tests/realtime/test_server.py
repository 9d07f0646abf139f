"""RealtimeServer in ordinary use: handlers, rooms, acknowledgements, sessions."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
import socketio
from aiohttp import web

from chatserver.realtime import RealtimeServer
from tests.support.echo import Raw, realtime, serving
from tests.support.guests import GUEST, Guest
from tests.support.raw import when
from tests.support.servers import ROOT

README = ROOT / "chatserver" / "realtime" / "README.md"


async def visit(url: str, *transports: str, **options: Any) -> Guest:
    guest = Guest()
    root = url.removesuffix("socket.io/")
    await guest.connect(root, transports=list(transports), **options)
    return guest


TRANSPORTS = (["websocket"], ["polling"], ["polling", "websocket"])


async def test_one_room_has_clients_of_every_transport() -> None:
    sio = RealtimeServer()
    async with serving(sio) as url:
        guests = [await visit(url, *transports) for transports in TRANSPORTS]
        sids = [str(guest.get_sid()) for guest in guests]
        assert sorted(sio.transport(sid) for sid in sids) == ["polling", "websocket", "websocket"]
        for sid in sids:
            await sio.enter_room(sid, "all of us")
        await sio.enter_room(sids[0], "two of us")
        await sio.enter_room(sids[1], "two of us")
        assert sio.rooms(sids[0]) in ([sids[0], *rest] for rest in
                                      (["all of us", "two of us"], ["two of us", "all of us"]))  # fmt: skip

        for n in range(100):
            await sio.emit("counted", n, room="all of us")
        for guest in guests:
            assert [await guest.hears() for _ in range(100)] == [("counted", n) for n in range(100)]
        await sio.emit(
            "file", ({"name": "x"}, b"\1\2", [b"\3"]), room="all of us", skip_sid=sids[2]
        )
        await sio.send("plain", to=sids[2])
        for guest in guests[:2]:
            assert await guest.hears() == ("file", {"name": "x"}, b"\1\2", [b"\3"])
        assert await guests[2].hears() == ("message", "plain")
        await sio.emit("once", room=["two of us", "all of us"])
        for guest in guests:
            assert await guest.hears() == ("once",)

        await sio.leave_room(sids[1], "two of us")
        await sio.emit("for the first", room="two of us")
        await sio.close_room("two of us")
        await sio.emit("for nobody", room="two of us")
        await sio.emit("for all")
        assert await guests[0].hears() == ("for the first",)
        for guest in guests:
            assert await guest.hears() == ("for all",)
        await guests[0].disconnect()
        await sio.emit("for those who are left")
        for guest in guests[1:]:
            assert await guest.hears() == ("for those who are left",)
            await guest.disconnect()
    assert sio.manager.rooms == {}
    assert sio.environ == {}


async def test_handlers_have_sessions_and_clients_acknowledge() -> None:
    sio = RealtimeServer()
    went: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    @sio.event
    async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
        await sio.save_session(sid, {"name": auth["name"]})

    @sio.event
    async def who(sid: str) -> str:
        async with sio.session(sid) as kept:
            return str(kept["name"])

    @sio.event
    async def ask_back(sid: str, question: str) -> Any:
        return await sio.call("question", question, to=sid)

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        went.put_nowait(((await sio.get_session(sid))["name"], reason))

    async with serving(sio) as url:
        for transports in TRANSPORTS:
            guest = await visit(url, *transports, auth={"name": transports[0]})
            guest.on("question", lambda question: (question, b"\0"))
            assert await guest.call("who") == transports[0]
            assert await guest.call("ask_back", "How are you?") == ("How are you?", b"\0")
            await guest.disconnect()
            name, reason = await asyncio.wait_for(went.get(), 2)
            # python-socketio's client closes a WebSocket without a DISCONNECT packet.
            assert name == transports[0]
            assert reason == (
                "client disconnect" if transports == ["polling"] else "transport close"
            )
        guest = await visit(url, "websocket", auth={"name": "x"})
        await sio.disconnect(str(guest.get_sid()))
        assert await asyncio.wait_for(went.get(), 2) == ("x", "server disconnect")
        await asyncio.wait_for(guest.wait(), 2)


async def test_a_client_that_floods_is_read_no_faster_than_it_is_served(
    session: aiohttp.ClientSession,
) -> None:
    sio = RealtimeServer(async_handlers=False)
    done: list[int] = []
    go_on = asyncio.Event()

    @sio.event
    async def work(sid: str, number: int, text: str) -> None:
        await go_on.wait()
        done.append(number)

    async with serving(sio) as url, Raw(url, session).websocket() as websocket:
        await websocket.receive_str()
        await websocket.send_str("40")
        await websocket.receive_str()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for number in range(3000):
                await websocket.send_str(f'42["work",{number},"{"x" * 10_000}"]')
                sent = number

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(0.3)
        assert sent < 2000, "the rest waits in the client"
        go_on.set()
        await flooding
        await when(lambda: len(done) == 3000)
        assert done == list(range(3000))


async def test_the_engine_io_server_can_be_used_by_itself(session: aiohttp.ClientSession) -> None:
    sio = RealtimeServer(cookie="visit")

    async def message(sid: str, data: str | bytes) -> None:
        await sio.eio.send(sid, data)

    async def refuse(sid: str, environ: dict[str, Any]) -> Any:
        return "banned" not in environ["QUERY_STRING"] or "Go away"

    sio.eio.on("message", message)
    sio.eio.on("connect", refuse)
    async with serving(sio) as url:
        raw = Raw(url, session)
        await raw.open()
        cookies = session.cookie_jar.filter_cookies(aiohttp.client.URL(url))
        assert await raw.post("4abc", "bAQID") == (200, "ok")
        assert await raw.get() == (200, "4abc\x1ebAQID")
        assert len(cookies) == 0 or cookies["visit"].value == raw.sid
        assert await raw.ask("GET", "?EIO=4&transport=polling&banned=1") == (401, '"Go away"')
        assert list(sio.eio.sockets) == [raw.sid]


async def test_a_handler_can_read_the_client_address_from_the_request(
    session: aiohttp.ClientSession,
) -> None:
    sio = RealtimeServer()
    peers: list[tuple[Any, ...]] = []

    @sio.event
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        request = environ["aiohttp.request"]
        peers.append((request.remote, request.transport.get_extra_info("peername")[0]))

    @sio.event
    async def ask(sid: str) -> str:
        return str(sio.get_environ(sid)["aiohttp.request"].remote)

    async with serving(sio) as url:
        for transport in TRANSPORTS:
            guest = await visit(url, *transport)
            assert await guest.call("ask") == "127.0.0.1"
            await guest.disconnect()
    assert peers == [("127.0.0.1", "127.0.0.1")] * 3


async def test_the_example_of_the_readme_works() -> None:
    code, *_ = re.findall(r"```python\n(.+?)```", README.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(README), "exec"), names)  # noqa: S102
    runner = web.AppRunner(names["app"], access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        alice, bob = [
            await visit(url, "websocket", auth={"name": name}) for name in ("alice", "bob")
        ]
        assert await alice.call("say", "Hello") == 1
        assert await bob.hears() == ("said", {"by": "alice", "text": "Hello"})
        with pytest.raises(socketio.exceptions.ConnectionError):
            await visit(url, "polling", auth={})
        for guest in (alice, bob):
            await guest.disconnect()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("slash", ["", "no"])
@pytest.mark.parametrize("transports", TRANSPORTS, ids=[" to ".join(names) for names in TRANSPORTS])
async def test_the_javascript_client_can_use_the_whole_protocol(
    transports: list[str], slash: str
) -> None:
    async with serving(realtime()) as url:
        guest = await asyncio.create_subprocess_exec(
            *("node", str(GUEST), url.removesuffix("/socket.io/"), *transports),
            env={**os.environ, "SLASH": slash},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await asyncio.wait_for(guest.communicate(), 20)
    assert json.loads(said) == {
        "transport": transports[-1],
        "auth": [{"token": "123"}],
        "noAuth": [{}],
        "refused": "Invalid namespace",
        "back": [1, "2", {"3": [True]}],
        "deep": [{"file": [1, 2, 3]}, [[]]],
        "acked": [4, 5, 6],
        "inOrder": True,
        "still": "still here",
    }


def test_realtime_does_not_import_the_chat() -> None:
    script = """if True:
        import importlib, pkgutil, sys
        import chatserver.realtime as realtime
        for module in pkgutil.walk_packages(realtime.__path__, "chatserver.realtime."):
            importlib.import_module(module.name)
        print(*(name for name in sys.modules if name.startswith("chatserver.")))
    """
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    loaded = ran.stdout.split()
    assert len(loaded) > 40
    assert [name for name in loaded if not name.startswith("chatserver.realtime")] == []
