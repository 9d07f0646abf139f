"""A simulated user, who stays connected and checks every delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..client.failures import ConnectionLost, RefusedByServer, Unreachable
from ..client.reconnecting_socket import ReconnectingSocket
from ..client.socket import Socket
from .tally import Tally

TRIES = 5
PAGE = 200


class ReceivedMessages:
    """The messages of a conversation that a user has received: all up to `seq` except `missing`.

    A page of a sync may run ahead of the events of the same connection, so an event may repeat a page.
    It may not repeat an event, nor a page another page.
    """

    def __init__(self, seq: int) -> None:
        self.base = self.seq = seq
        self.missing: set[int] = set()
        self._live = 0
        """The `seq` of the last event of this connection."""

    def connected(self) -> None:
        self._live = 0

    def read(self, seq: int, tally: Tally) -> bool:
        """Count a message of a page. Returns False if it is a duplicate."""
        if seq > self.seq:
            self._advance(seq)
            return True
        return self._late(seq, tally)

    def hear(self, seq: int, tally: Tally) -> bool:
        """Count an event. Returns False if it is a duplicate, or repeats a page."""
        repeats_page = self._live < seq <= self.seq and seq not in self.missing
        self._live = max(self._live, seq)
        if repeats_page:
            return False
        return self.read(seq, tally)

    def lacks(self, upto: int) -> int:
        return max(0, upto - self.seq) + len(self.missing)

    def _advance(self, seq: int) -> None:
        self.missing.update(range(self.seq + 1, seq))
        self.seq = seq

    def _late(self, seq: int, tally: Tally) -> bool:
        if seq in self.missing:
            self.missing.remove(seq)
            tally.out_of_order += 1
            return True
        tally.twice += 1
        return False


class LoadUser:
    """`started` returns the time at which a message of this run was due, by its clientMessageId."""

    def __init__(
        self,
        user: str,
        tally: Tally,
        started: Callable[[str | None], float | None],
        bases: Mapping[str, int],
        connect: Callable[..., ReconnectingSocket],
        token: Callable[[], str],
    ) -> None:
        self.user = user
        self.received = {conversation: ReceivedMessages(seq) for conversation, seq in bases.items()}
        self.been_up = False
        self.failed = False
        """At least one connect got no answer."""
        self.refused: RefusedByServer | None = None
        """The reason for which the server refuses this user."""
        self._tally = tally
        self._started = started
        self._make_token = token
        self._began = 0.0
        self._held: list[Any] | None = []
        self._up = False
        self.connection = connect(
            token=self._token, hear=self._hear, came=self._came, lost=self._lost
        )

    async def live(self) -> None:
        """Stay connected until cancelled, refused for good, or unreachable TRIES times."""
        for _ in range(TRIES):
            try:
                await self.connection.run()
            except Unreachable:
                self.failed = True
                self._tally.errors["no connection"] += 1
                await asyncio.sleep(1.0)
            except RefusedByServer as refused:
                self.refused = refused
                self._tally.errors[f"connect: {refused.code}"] += 1
                break
            finally:
                self._down()

    async def say(self, conversation: str, text: str, once: str, due: float) -> int | None:
        """Send a message. Returns its seq, or None if it was refused."""
        message = {"conversationId": conversation, "content": text, "clientMessageId": once}
        try:
            stored = await self.connection.call("message:send", message)
        except RefusedByServer as refused:
            self._tally.errors[refused.code] += 1
            self._tally.refused += 1
            return None
        self._tally.last_ack = time.perf_counter()
        self._tally.ack.add(self._tally.last_ack - due)
        return int(stored["seq"])

    def _token(self) -> str:
        self._began = time.perf_counter()
        return self._make_token()

    async def _came(self, socket: Socket) -> None:
        self._tally.connect.add(time.perf_counter() - self._began)
        self._tally.connected += 1
        self._up = True
        self._tally.reconnects += self.been_up
        # Also at the first connection: another run may have sent messages since the last seq was read.
        await self._catch_up(socket)
        self.been_up = True

    def _lost(self) -> None:
        self._down()
        # Hold the events of the next connection back until its catch-up is complete.
        self._held = []

    def _down(self) -> None:
        self._tally.connected -= self._up
        self._up = False

    async def _catch_up(self, socket: Socket) -> None:
        for conversation, received in self.received.items():
            received.connected()
            more = True
            while more:
                asked = {"conversationId": conversation, "afterSeq": received.seq, "limit": PAGE}
                try:
                    page = await socket.call("messages:sync", asked)
                except RefusedByServer as refused:
                    # The messages count as lost unless a later connection reads them.
                    self._tally.errors[f"sync: {refused.code}"] += 1
                    raise ConnectionLost from None
                for message in page["messages"]:
                    if received.read(message["seq"], self._tally):
                        self._delivered(message)
                more = page["hasMore"]
        held, self._held = self._held or [], None
        for message in held:
            self._message(message)

    def _hear(self, event: str, data: Any) -> None:
        if event == "message:new" and data["conversationId"] in self.received:
            if self._held is None:
                self._message(data)
            else:
                self._held.append(data)
        elif event == "error":
            self._tally.errors[data["code"]] += 1

    def _message(self, message: Any) -> None:
        if self.received[message["conversationId"]].hear(message["seq"], self._tally):
            self._delivered(message)

    def _delivered(self, message: Any) -> None:
        self._tally.delivered += 1
        due = self._started(message["clientMessageId"])
        if due is not None:
            self._tally.delivery.add(time.perf_counter() - due)


def lacking(users: Sequence[LoadUser], targets: Mapping[str, int]) -> int:
    """The number of deliveries that have not arrived."""
    return sum(
        received.lacks(targets[conversation])
        for user in users
        for conversation, received in user.received.items()
    )
