"""The people in the tests: they have tokens, send REST requests, and connect with their devices."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt
import socketio
from engineio.payload import Payload

from . import documented
from .patience import PATIENCE_S
from .people_on_nodes import Spread
from .servers import INTERNAL_SECRET, JWT_SECRET, ChatServer

# Unlike the official client, the Python client fails on a poll response with more than 16 packets.
Payload.max_decode_packets = 10_000
_numbers = itertools.count(1)


def token(
    user_id: str, *, expires_in: float = 3600, secret: str = JWT_SECRET, **claims: Any
) -> str:
    return jwt.encode({"sub": user_id, "exp": time.time() + expires_in, **claims}, secret, "HS256")


class Refused(Exception):
    """An acknowledgement or a response is an error. `error` is the error as sent."""

    def __init__(self, error: dict[str, Any], status: int | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.code = error["code"]
        self.details = error.get("details", {})
        self.status = status


class Device:
    """A connected socket. The events that it receives are kept in order."""

    def __init__(self, person: Person, client: socketio.AsyncClient) -> None:
        self.person = person
        self.client = client
        self.heard: list[tuple[str, Any]] = []
        self.gone = asyncio.Event()
        self._news = asyncio.Event()
        self._read = 0
        client.on("*", self._hear)
        client.on("disconnect", self._end)

    def _hear(self, event: str, *data: Any) -> None:
        self.heard.append((event, data[0] if data else None))
        documented.heard(event, *data)
        self._news.set()

    def _end(self, *_: Any) -> None:
        self.gone.set()

    async def do(self, event: str, payload: Any = None) -> Any:
        """Emits an event, and returns the data of its acknowledgement. Raises Refused."""
        answer = await self.client.call(
            event, {} if payload is None else payload, timeout=PATIENCE_S
        )
        documented.acknowledged(event, answer)
        if answer["ok"]:
            return answer["data"]
        raise Refused(answer["error"])

    async def refused(self, event: str, payload: Any = None) -> Refused:
        """Emits an event that must be refused, and returns the refusal."""
        try:
            data = await self.do(event, payload)
        except Refused as refusal:
            return refusal
        raise AssertionError(f"{event} was allowed: {data}")

    async def say(self, conversation: dict[str, Any], text: str, **more: Any) -> Any:
        return await self.do(
            "message:send", {"conversationId": conversation["id"], "content": text, **more}
        )

    async def hears(
        self,
        event: str,
        where: Callable[[Any], bool] = lambda _: True,
        *,
        within: float = PATIENCE_S,
    ) -> Any:
        """Waits for the next such event that was not returned yet, and returns its payload. Skips others."""
        async with asyncio.timeout(within):
            while True:
                while self._read < len(self.heard):
                    name, payload = self.heard[self._read]
                    self._read += 1
                    if name == event and where(payload):
                        return payload
                self._news.clear()
                await self._news.wait()

    async def caught_up(self) -> None:
        """Waits until everything sent to this device so far has arrived. Its events arrive in order."""
        if self.person.nodes is not None:
            await self.person.nodes.settled()
        await self.do("ping")

    async def all_heard(self, event: str) -> list[Any]:
        """Catches up, then returns the payloads of every such event since the device connected."""
        await self.caught_up()
        return [payload for name, payload in self.heard if name == event]

    async def close(self) -> None:
        await self.client.disconnect()


class Person:
    """`server`: receives the person's REST requests. `nodes`: the person's devices connect to each in turn."""

    def __init__(
        self,
        server: ChatServer,
        user_id: str,
        session: aiohttp.ClientSession,
        nodes: Spread | None = None,
    ) -> None:
        self.server = server
        self.nodes = nodes
        self.id = user_id
        self.devices: list[Device] = []
        self.session = session

    @property
    def token(self) -> str:
        return token(self.id)

    def at(self, server: ChatServer) -> Person:
        """Returns the same person as a client of another node."""
        return Person(server, self.id, self.session, self.nodes)

    async def request(
        self, method: str, path: str, body: Any = None, **kwargs: Any
    ) -> tuple[int, Any]:
        """Returns the status and the decoded body. `path` is without /api."""
        headers = {"Authorization": f"Bearer {self.token}", **kwargs.pop("headers", {})}
        return await ask(
            self.session, method, f"{self.server.rest}/api{path}", body, headers, **kwargs
        )

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Returns the body of a successful response. Raises Refused."""
        status, answer = await self.request(method, path, body)
        if status >= 400:
            raise Refused(answer["error"], status)
        return answer

    async def refused(self, method: str, path: str, body: Any = None) -> Refused:
        status, answer = await self.request(method, path, body)
        assert status >= 400, (status, answer)
        assert set(answer) == {"error"}
        return Refused(answer["error"], status)

    async def connect(
        self, transport: str = "websocket", *, with_token: str | None = None
    ) -> Device:
        """Returns a device that is in its rooms. `transport`: websocket, polling, or upgrade."""
        client = socketio.AsyncClient(reconnection=False)
        device = Device(self, client)
        transports = ["polling", "websocket"] if transport == "upgrade" else [transport]
        await client.connect(
            (self.nodes.another() if self.nodes else self.server).sockets,
            auth={"token": with_token or self.token},
            transports=transports,
            wait_timeout=10,
        )
        self.devices.append(device)
        await device.hears("connected")
        return device

    async def group(self, *others: Person, **more: Any) -> Any:
        people = [person.id for person in others]
        return await self.ask(
            "POST", "/conversations", {"type": "group", "participantIds": people, **more}
        )

    async def direct(self, other: Person) -> Any:
        return await self.ask("POST", "/conversations/direct", {"userId": other.id})


class People:
    """Creates people whom no other test uses."""

    def __init__(
        self, server: ChatServer, session: aiohttp.ClientSession, nodes: Spread | None = None
    ) -> None:
        self.server = server
        self.session = session
        self.nodes = nodes
        self.all: list[Person] = []

    def __call__(self, *names: str) -> Any:
        """Returns one person, or a list of people."""
        made = [
            Person(
                self.nodes.another() if self.nodes else self.server,
                f"{name}-{os.getpid()}-{next(_numbers)}",
                self.session,
                self.nodes,
            )
            for name in names
        ]
        self.all += made
        return made[0] if len(made) == 1 else made

    async def master(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Sends a request as the Master Service, with the internal secret."""
        secret = {"X-Internal-Secret": INTERNAL_SECRET, **headers}
        return await ask(self.session, method, f"{self.server.rest}/api{path}", body, secret)

    async def go_home(self) -> None:
        devices = [device for person in self.all for device in person.devices]
        await asyncio.gather(*[device.close() for device in devices])


async def devices(*people: Person) -> list[Device]:
    """Returns a connected device for each person."""
    return await asyncio.gather(*[person.connect() for person in people])


async def presence(asker: Person, user_id: str, status: str) -> Any:
    """Waits until the asker sees this status of a user, and returns the user's presence."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            seen = await asker.ask("GET", f"/users/{quote(user_id, safe='')}/presence")
            if seen["status"] == status:
                return seen
            await asyncio.sleep(0.02)


async def ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    body: Any,
    headers: dict[str, str],
    **kwargs: Any,
) -> tuple[int, Any]:
    if body is not None:
        kwargs["json"] = body
    async with session.request(method, url, headers=headers, **kwargs) as answer:
        said = await answer.json() if answer.content_length else None
        documented.answer(method, answer.url.raw_path, answer.status, answer.headers, said)
        return answer.status, said
