"""An application that uses all features at once and records what it sends to each client, and clients for it
that work frame by frame."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import Any

from chatserver.realtime import RealtimeServer

from .bare import SEPARATOR, TEXT, BareSocket
from .echo import Raw

PAD = "x" * 200
ROOMS = ("left", "right")


class Party:
    """Rooms, names, and the lines that each guest should have received so far."""

    def __init__(self) -> None:
        self.sio = RealtimeServer(ping_interval=1, ping_timeout=60, unsent_limit=8 * 2**20)
        self.told: dict[str, list[str]] = {}
        self.done: dict[str, int] = {}
        """The number of actions of each guest."""
        self.asked: list[int] = []
        self.answered: list[int] = []
        self.sids: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._side: dict[str, str] = {}
        for handler in (self.connect, self.act):
            self.sio.on(handler.__name__, handler)

    async def connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        name = self._names[sid] = auth["name"]
        self.sids[name], self.told[name], self.done[name] = sid, [], 0
        await self.sio.enter_room(sid, "all")
        await self._sits(name, ROOMS[len(self.sids) % 2])

    async def act(self, sid: str, n: int, data: bytes = b"") -> str:
        by = self._names[sid]
        assert self.done[by] == n, "the actions of a client are handled in order"
        self.done[by] += 1
        everybody = list(self.sids)
        somebody = everybody[n // 10 % len(everybody)]
        emit = self.sio.emit
        match n % 10:
            case 5 | 6 as side:
                room = ROOMS[side - 5]
                self._told(
                    [name for name in everybody if self._side[name] == room], f"said {by} {n}"
                )
                await emit("said", (by, n, PAD), room=room)
            case 7:
                self._told([somebody], f"said {by} {n}")
                await emit("said", (by, n, PAD), to=self.sids[somebody])
            case 8:
                self._told([somebody], f"asked {by} {n}")
                self.asked.append(n)
                await emit("asked", (by, n), to=self.sids[somebody], callback=self.answered.append)
            case 9:
                self._told(everybody, f"bytes {by} {n} {data.hex()}")
                await emit("bytes", (by, n, data), room="all")
            case 4:
                self._told([name for name in everybody if name != by], f"said {by} {n}")
                await emit("said", (by, n, PAD), room="all", skip_sid=sid)
            case _:
                self._told(everybody, f"said {by} {n}")
                await emit("said", (by, n, PAD), room="all")
        if by == "wanderer" and n % 20 == 0:
            await self._sits(by, ROOMS[self._side[by] == "left"])
        self._told([by], f"answer {n}")
        return str(n)

    async def _sits(self, name: str, side: str) -> None:
        sid = self.sids[name]
        if name in self._side:
            await self.sio.leave_room(sid, self._side[name])
        self._side[name] = side
        await self.sio.enter_room(sid, side)

    def _told(self, names: list[str], line: str) -> None:
        for name in names:
            self.told[name].append(line)

    async def end(self) -> None:
        await self.sio.emit("end", room="all")


class Guest:
    """A client: the lines that it has received, and the packets that it sends in reply."""

    def __init__(self, name: str, count: int = 0) -> None:
        self.hello = "40" + json.dumps({"name": name})
        self.heard: list[str] = []
        self.ended = False
        self._count = count
        self._at = 0
        self._head = ""

    def takes(self, packet: str | bytes) -> list[str | bytes]:
        """Takes a received packet. Returns the packets to send now."""
        if isinstance(packet, bytes):
            self.heard.append(f"{self._head} {packet.hex()}")
            return []
        if packet == "2":
            return ["3"]
        if packet.startswith("40"):
            return [answer for _ in range(20) for answer in self._act()]
        number, _, body = packet[2:].removeprefix("1-").partition("[")
        arguments = json.loads("[" + body)
        if packet.startswith("43"):
            self.heard.append(f"answer {arguments[0]}")
            return self._act()
        if arguments == ["end"]:
            self.ended = True
            return []
        line = "{} {} {}".format(*arguments)
        if packet.startswith("45"):
            self._head = line
            return []
        assert not self.ended
        self.heard.append(line)
        return [f"43{number}[{arguments[2]}]"] if number else []

    def _act(self) -> list[str | bytes]:
        n = self._at
        if n == self._count:
            return []
        self._at += 1
        if n % 10 == 9:
            placeholder = '{"_placeholder":true,"num":0}'
            return [f'451-{n}["act",{n},{placeholder}]', n.to_bytes(2, "little")]
        return [f'42{n}["act",{n}]']

    # --- transports ---------------------------------------------------------------------------------

    async def over_websocket(self, url: str, *, woken: asyncio.Event | None = None) -> None:
        """With `woken`, it reads nothing before that event, and slowly afterwards."""
        slowly = woken is not None
        bare = await BareSocket.open_at(url, receive_buffer=4096 if slowly else 0)
        assert (await bare.frame())[1][:1] == b"0"
        await bare.write(self.hello)
        with contextlib.closing(bare.writer):
            for at in range(10**6):
                if woken is not None and at % 500 == 1:
                    await woken.wait()
                    await asyncio.sleep(0.05)
                opcode, data = await bare.frame()
                for packet in self.takes(data.decode() if opcode == TEXT else data):
                    await bare.write(packet, TEXT if isinstance(packet, str) else 2)
                if self.ended:
                    return

    async def over_polling(self, raw: Raw, *, upgrades_after: int = 10**6) -> None:
        await raw.open()
        assert await raw.post(self.hello) == (200, "ok")
        while not self.ended:
            if len(self.heard) >= upgrades_after:
                await self._upgrade(raw)
                return
            await self._poll(raw)

    async def _poll(self, raw: Raw) -> None:
        status, body = await raw.get()
        assert status == 200, body
        answers: list[str | bytes] = []
        for part in body.split(SEPARATOR):
            if part != "6":
                answers += self.takes(base64.b64decode(part[1:]) if part[:1] == "b" else part)
        if answers:
            assert await raw.post(*[_polled(packet) for packet in answers]) == (200, "ok")

    async def _upgrade(self, raw: Raw) -> None:
        async with raw.websocket(raw.sid) as websocket:
            polling = asyncio.create_task(self._poll(raw))
            await websocket.send_str("2probe")
            assert await websocket.receive_str() == "3probe"
            await polling
            await self._poll(raw)
            await websocket.send_str("5")
            while not self.ended:
                for packet in self.takes((await websocket.receive(timeout=5)).data):
                    if isinstance(packet, str):
                        await websocket.send_str(packet)
                    else:
                        await websocket.send_bytes(packet)


def _polled(packet: str | bytes) -> str:
    return packet if isinstance(packet, str) else "b" + base64.b64encode(packet).decode()
