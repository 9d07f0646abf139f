"""The events of one connection: their order, their limits and their time, with handlers that the test controls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest

from chatserver.api.operations.operation import Made
from chatserver.api.rate_limits import Limits, Rate
from chatserver.api.requests.conversations import OfConversation
from chatserver.api.sockets.client_events import ClientEvent
from chatserver.api.sockets.connection import BACKLOG, UNDER_WAY, ClientConnection, Services
from chatserver.chat.conversations import OneConversation
from chatserver.errors import NotFound
from chatserver.observability.metrics import Metrics
from chatserver.realtime.engine.packet import Packet
from tests.support.raw import when


class Line:
    """The part of a session that a connection uses."""

    def __init__(self) -> None:
        self.acks: dict[int, Any] = {}
        """Acknowledgements by packet id, in the order in which they were sent."""
        self.answered_twice = False
        self.events: list[tuple[str, Any]] = []
        self.paused: list[bool] = []
        self.is_read = asyncio.Event()
        self.is_read.set()

    def emit(self, packet: Packet) -> None:
        text = packet.payload.decode()
        digits, _, rest = text[1:].partition("[")
        sent = json.loads("[" + rest)
        if text.startswith("3"):
            self.answered_twice |= int(digits) in self.acks
            self.acks[int(digits)] = sent[0]
        else:
            self.events.append((sent[0], sent[1]))

    def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    async def drained(self) -> None:
        await self.is_read.wait()


@dataclass
class Phone:
    """A client of the events `send`, `sync` and `ping`, which stay unanswered until the test answers them."""

    connection: ClientConnection
    line: Line
    metrics: Metrics
    begun: list[str]
    """Events whose handler was called, by their conversation."""
    results: dict[str, asyncio.Future[Any]]

    def emit(self, name: str, conversation: str, packet_id: int | None = None) -> None:
        text = json.dumps([name, {"conversationId": conversation}])
        self.connection.event(text.encode(), packet_id)

    async def answered(self, *packet_ids: int) -> list[Any]:
        await when(lambda: all(packet_id in self.line.acks for packet_id in packet_ids))
        return [self.line.acks[packet_id] for packet_id in packet_ids]

    async def counted(self, name: str, code: str) -> bool:
        line = f'chat_requests_total{{code="{code}",door="socket",name="{name}"}} 1.0'
        return line in (await self.metrics.exposition()).decode().splitlines()


@pytest.fixture
def connect() -> Callable[..., Phone]:
    def connect(timeout_s: float = 60) -> Phone:
        begun: list[str] = []
        results: dict[str, asyncio.Future[Any]] = {}

        def future(asked: OneConversation) -> asyncio.Future[Any]:
            begun.append(asked.conversation_id)
            results[asked.conversation_id] = asyncio.get_running_loop().create_future()
            return results[asked.conversation_id]

        def send(_: Any, __: Any, asked: OneConversation) -> Any:
            return future(asked)

        async def sync(_: Any, __: Any, asked: OneConversation) -> Any:
            return await future(asked)

        def ping(_: Any, __: Any, asked: OneConversation) -> Any:
            begun.append(asked.conversation_id)
            return {}

        handlers = {"send": send, "sync": sync, "ping": ping}
        services = Services(
            cast(Any, None),
            {
                name: ClientEvent(
                    name,
                    OfConversation,
                    handler,
                    (lambda found: Made({"found": found}, is_new=True)) if name == "send" else None,
                    Rate(1),
                    None,
                    OfConversation.recurs,
                    "pong" if name == "ping" else None,
                    ends_in_time=False,
                    takes_turn=asyncio.iscoroutinefunction(handler),
                )
                for name, handler in handlers.items()
            },
            Limits(on=False, sockets=0, stale_s=1),
            metrics := Metrics(),
            None,
            timeout_s,
            64 * 1024,
        )
        line = Line()
        connection = ClientConnection(services, cast(Any, line), "sid", "alice")
        connection.start()
        return Phone(connection, line, metrics, begun, results)

    return connect


async def test_sends_do_not_wait_for_each_other_and_a_handler_that_waits_does(
    connect: Callable[..., Phone],
) -> None:
    phone = connect()
    for number, name in enumerate(["send", "send", "sync", "send", "ping", "sync"]):
        phone.emit(name, f"{name} {number}", number)
    assert phone.begun == ["send 0", "send 1"]
    phone.results["send 1"].set_result("second")
    await phone.answered(1)
    assert phone.begun == ["send 0", "send 1"]
    phone.results["send 0"].set_result("first")
    await phone.answered(0)
    await when(lambda: phone.begun[2:] == ["sync 2"])
    phone.results["sync 2"].set_result({"page": 1})
    # A send that is under way does not hold up an event whose handler answers immediately.
    await when(lambda: phone.begun[3:] == ["send 3", "ping 4"])
    phone.results["send 3"].set_result("third")
    await when(lambda: phone.begun[5:] == ["sync 5"])
    phone.results["sync 5"].set_result({"page": 2})
    await phone.answered(*range(6))
    assert list(phone.line.acks) == [1, 0, 2, 4, 3, 5]
    assert phone.line.acks[0] == {"ok": True, "data": {"found": "first"}}
    assert phone.line.acks[5] == {"ok": True, "data": {"page": 2}}
    assert phone.line.paused == []


async def test_only_so_many_sends_are_unanswered(connect: Callable[..., Phone]) -> None:
    phone = connect()
    for number in range(UNDER_WAY + 2):
        phone.emit("send", f"{number}", number)
    assert len(phone.begun) == UNDER_WAY
    phone.results["5"].set_result(None)
    await phone.answered(5)
    assert phone.begun == [f"{number}" for number in range(UNDER_WAY + 1)]


async def test_the_socket_is_not_read_while_too_many_events_wait(
    connect: Callable[..., Phone],
) -> None:
    phone = connect()
    phone.emit("sync", "first")
    await when(lambda: phone.begun == ["first"])
    for number in range(BACKLOG - 1):
        phone.emit("sync" if number in (20, 100) else "ping", f"{number}", number)
    assert phone.line.paused == []
    phone.emit("ping", f"{BACKLOG - 1}")
    assert phone.line.paused == [True]
    phone.emit("ping", "read already")
    assert phone.line.acks == {}
    phone.results["first"].set_result({})
    await when(lambda: phone.begun[-1] == "20")
    assert phone.line.paused == [True]  # more than half still wait
    phone.results["20"].set_result({})
    await when(lambda: phone.begun[-1] == "100")
    assert phone.line.paused == [True, False]
    phone.results["100"].set_result({})
    await when(lambda: phone.begun[-1] == "read already")
    assert phone.begun[1:-1] == [f"{number}" for number in range(BACKLOG)]
    assert phone.line.paused == [True, False]


async def test_a_handler_has_its_time_from_the_arrival_of_its_event(
    connect: Callable[..., Phone],
) -> None:
    phone = connect(timeout_s := 1.0)
    clock = asyncio.get_running_loop().time
    began = clock()
    for number in range(4):
        phone.emit("sync", f"{number}", number)
    await phone.answered(0)
    assert (first := clock()) - began > 0.9 * timeout_s
    answers = await phone.answered(*range(4))
    assert clock() - first < timeout_s  # together, not one after another
    assert [answer["error"]["code"] for answer in answers] == ["UNAVAILABLE"] * 4
    assert list(phone.line.acks) == [0, 1, 2, 3]


async def test_a_handler_that_ends_too_late_changes_nothing(connect: Callable[..., Phone]) -> None:
    phone = connect(timeout_s=0.5)
    phone.emit("sync", "late", 0)
    (refused,) = await phone.answered(0)
    phone.emit("sync", "next", 1)
    phone.emit("ping", "last", 2)
    await when(lambda: "next" in phone.results)
    phone.results["late"].set_result({})
    await asyncio.sleep(0.05)
    assert phone.begun == ["late", "next"]
    phone.results["next"].set_result({"page": 1})
    assert await phone.answered(0, 1, 2) == [
        refused,
        {"ok": True, "data": {"page": 1}},
        {"ok": True, "data": {}},
    ]
    assert not phone.line.answered_twice


async def test_the_next_handler_starts_when_the_client_has_read_and_has_all_of_its_time(
    connect: Callable[..., Phone],
) -> None:
    phone = connect(timeout_s=0.5)
    phone.line.is_read.clear()
    phone.emit("sync", "first", 0)
    phone.emit("sync", "second", 1)
    await when(lambda: phone.begun == ["first"])
    phone.results["first"].set_result({})
    await phone.answered(0)
    await asyncio.sleep(0.6)
    assert phone.begun == ["first"]
    phone.line.is_read.set()
    await when(lambda: phone.begun == ["first", "second"])
    phone.results["second"].set_result({"page": 2})
    assert await phone.answered(1) == [{"ok": True, "data": {"page": 2}}]


async def test_errors_are_answered_once_and_the_next_event_starts(
    connect: Callable[..., Phone], capsys: pytest.CaptureFixture[str]
) -> None:
    phone = connect()
    phone.emit("send", "refused", 0)
    phone.emit("send", "broken", 1)
    phone.emit("sync", "also broken")
    phone.emit("ping", "after")
    phone.results["refused"].set_exception(NotFound())
    phone.results["broken"].set_exception(ZeroDivisionError("a secret"))
    refused, broken = await phone.answered(0, 1)
    assert refused["error"]["code"] == "NOT_FOUND"
    assert broken["error"]["code"] == "INTERNAL"
    await when(lambda: "also broken" in phone.results)
    phone.results["also broken"].set_exception(ZeroDivisionError("a secret"))
    await when(lambda: len(phone.line.events) == 2)
    (error, told), pong = phone.line.events
    assert (error, told["code"], told["event"]) == ("error", "INTERNAL", "sync")
    assert pong == ("pong", {})
    assert "secret" not in json.dumps([refused, broken, told])
    logged = capsys.readouterr().out
    assert logged.count("unexpected error") == 2
    for name, code in [
        ("send", "NOT_FOUND"),
        ("send", "INTERNAL"),
        ("sync", "INTERNAL"),
        ("ping", "OK"),
    ]:
        assert await phone.counted(name, code), (name, code)


async def test_events_of_a_client_that_is_gone_are_discarded(connect: Callable[..., Phone]) -> None:
    phone = connect()
    phone.emit("sync", "first", 0)
    for number in range(1, BACKLOG + 2):
        phone.emit("sync", f"{number}", number)
    await when(lambda: phone.begun == ["first"])
    phone.connection.end()
    phone.results["first"].set_result({})
    await phone.answered(0)
    phone.emit("ping", "late", 500)
    await asyncio.sleep(0.05)
    assert phone.begun == ["first"]
    assert phone.line.paused == [True]  # nothing is read any more
