"""Rooms whose members are connected to several nodes.

A node hears the channels of those rooms that have members on it, and of the users who are connected to
it; a change is told on the channel of its room, and by its place every node puts it in order. What the
bus loses, and what happens while there is none, is read from where it is on record: nothing but speed
depends on the bus.

| channel | what is said on it |
|---|---|
| `r:<room>` | changes of the room, and what is said in it |
| `u:<user>` | changes that move the user: into rooms that the user's node does not hear yet |
| `n:<node>` | answers to the node |
| `all` | what concerns every node: presence, users who are shut out |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol

import orjson
import structlog

from .direct import Connection
from .keeping_up import KeepingUp
from .linger import Linger
from .order import Record
from .packet import Packet, event
from .questions import Questions
from .rooms import Arrival, Rooms
from .steps import Steps

log = structlog.get_logger(__name__)

LINGER_S = 30.0
"""How long a room is heard after its last member here has gone: most come back. Longer by far than
somebody may take to come in."""
CONFIRM_S = 1.0
"""How long who comes in waits for the channels of the rooms; what is said meanwhile is read later."""
SINGLY = 8
"""Users who are told of a change one by one; for more, all nodes are told at once."""
COMPLAIN_S = 10.0
ALL = "all"

_HEAD = 25  # kind, node, number of the question
_NO_QUESTION = b"00000000"


class Channels(Protocol):
    """The bus (see Bus)."""

    @property
    def up(self) -> bool: ...
    def publish(
        self, channel: str, message: bytes, heard: Callable[[int], None] | None = None
    ) -> None: ...
    def subscribe(self, channel: str) -> asyncio.Future[bool]: ...
    def unsubscribe(self, channel: str) -> None: ...


class Cluster(Rooms):
    """As Rooms, over all nodes. `node`: 16 hexadecimal characters, of this life of this process.

    `elsewhere(room, place, seq)` is called for every message that another node has committed to a room
    that is heard here; `look_again()` when something may have been missed about users: it is to look
    for what is on record. It may raise Unreadable.
    """

    elsewhere: Callable[[str, int, int], None]
    look_again: Callable[[], Awaitable[None]]
    on_lost: Callable[[], None] = staticmethod(lambda: None)
    """Called when this node is cut off."""

    def __init__(self, record: Record, node: str) -> None:
        super().__init__(record)
        self._keeping_up = KeepingUp(self._catch_up, lambda: self._channels.up)
        self._complain_at = 0.0
        self._record = record
        self._me = node.encode()
        self._loop = asyncio.get_running_loop()
        self._channels: Channels
        self._listening: dict[str, asyncio.Future[bool]] = {}
        self._of_users: dict[str, asyncio.Future[bool]] = {}
        self._rooms_linger = Linger(LINGER_S, self._stop_listening)
        self._users_linger = Linger(LINGER_S, self._forget_user)
        self._questions = Questions()
        self._moves: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._owed: dict[str, list[tuple[int, str, bytes]]] = {}
        """Answers that wait for a room to reach a place."""
        self._near: list[tuple[list[str], str, Any, str]] = []
        self._kinds: dict[bytes, Callable[[str, bytes], None]] = {
            b"m": self._hear_message,
            b"s": self._hear_steps,
            b"u": self._hear_of_user,
            b"e": self._hear_event,
            b"g": self._hear_signal,
            b"p": self._hear_neighbours,
            b"y": self._hear_answer,
        }

    @property
    def whole(self) -> bool:
        return self._keeping_up.whole

    def connect(self, channels: Channels) -> None:
        """Before anybody comes in."""
        self._channels = channels
        channels.subscribe(ALL)
        channels.subscribe(f"n:{self._me.decode()}")
        self._keeping_up.missed()

    async def keep_up(self) -> None:
        """Look for what was missed whenever something may have been, until cancelled."""
        await self._keeping_up.run(self.missed)

    def missed(self) -> None:
        """Something may have been said that was not heard here."""
        for arrivals in self._arrivals.values():
            for arrival in arrivals:
                arrival.sure = False
        self._keeping_up.missed()

    def lost(self) -> None:
        """Nothing is heard, and nobody hears."""
        self.on_lost()
        self._questions.give_up()
        self.missed()

    async def _catch_up(self) -> None:
        await self.look_again()
        rooms = self.order.rooms()
        positions = await self._record.positions(rooms)
        for room in rooms:
            last, place = self.order.last(room), positions.get(room)
            # One that is not there has ended: its last change tells so.
            if last is not None and (place is None or place > last):
                self.order.look(room, place or 0)

    # --- coming and going -----------------------------------------------------------------------

    def arriving(self, user_id: str) -> Arrival:
        if user_id not in self._of_users:
            self._of_users[user_id] = self._channels.subscribe(f"u:{user_id}")
        arrival = super().arriving(user_id)
        arrival.sure = self.whole
        return arrival

    async def reachable(self, user_id: str) -> None:
        await self._settled([self._of_users[user_id]])

    async def prepare(self, rooms: Iterable[str]) -> None:
        rooms = list(rooms)
        for room in rooms:
            self._rooms_linger.keep(room)
            if room not in self._listening:
                self.order.expect(room)
                self._listen(room)
        await self._settled([self._listening[room] for room in rooms])
        for room in rooms:
            if (subscribed := self._listening.get(room)) and not subscribed.done():
                subscribed.add_done_callback(partial(self._late, room))
        unknown = [room for room in rooms if self.order.last(room) is None]
        if unknown:
            # After the channel is heard: what is not in the record yet will be heard.
            positions = await self._record.positions(unknown)
            for room in unknown:
                if room in positions:
                    self.order.begin(room, positions[room])
                elif self.order.last(room) is None:
                    self._has_ended(room)

    def _has_ended(self, room: str) -> None:
        """It was there a moment ago."""
        for arrivals in self._arrivals.values():
            for arrival in arrivals:
                arrival.changes[room] = False
        self._stop_listening(room)

    async def _settled(self, subscribed: list[asyncio.Future[bool]]) -> None:
        waiting = [one for one in subscribed if not one.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=CONFIRM_S)

    def turned_back(self, user_id: str, arrival: Arrival) -> None:
        super().turned_back(user_id, arrival)
        self._users_linger.keep(user_id)

    def leave(self, connection: Connection) -> None:
        super().leave(connection)
        self._users_linger.keep(connection.user_id)

    def admit(self, room: str, user_ids: Iterable[str]) -> None:
        user_ids = list(user_ids)
        super().admit(room, user_ids)
        # From here on, for those on the way in as well: they come into a room that goes on.
        if room not in self._listening and any(one in self._arrivals for one in user_ids):
            self._listen(room).add_done_callback(partial(self._late, room))

    def _forget_user(self, user_id: str) -> None:
        if not self.sockets_of(user_id) and self._of_users.pop(user_id, None) is not None:
            self._channels.unsubscribe(f"u:{user_id}")

    def _host(self, room: str) -> None:
        if room not in self._listening:
            self._listen(room).add_done_callback(partial(self._late, room))

    def _leave_off(self, room: str) -> None:
        self._rooms_linger.keep(room)

    def _listen(self, room: str) -> asyncio.Future[bool]:
        subscribed = self._listening[room] = self._channels.subscribe(f"r:{room}")
        # Whoever it is for may not come in after all.
        self._rooms_linger.keep(room)
        return subscribed

    def _late(self, room: str, subscribed: asyncio.Future[bool]) -> None:
        """The channel is heard only now: what was said before is on record."""
        if not subscribed.cancelled() and subscribed.result():
            self.order.look(room)

    def _stop_listening(self, room: str) -> None:
        if room not in self._members and room in self._listening:
            del self._listening[room]
            self._channels.unsubscribe(f"r:{room}")
            self.order.forget(room)
            for _, node, question in self._owed.pop(room, ()):
                self._answer(node, question)

    # --- what is on record -----------------------------------------------------------------------

    def reached(self, room: str, place: int) -> bool | None:
        """Whether the changes of the room up to `place` count as performed here; None when the room is
        not followed here."""
        if room not in self.order:
            return None
        last = self.order.last(room)
        return last is not None and last >= place

    def found(self, room: str, place: int, steps: Steps) -> None:
        """Perform here what is on record, of users whom nobody told."""
        if room in self.order:
            steps.perform(self, room)
        else:
            self._offer(room, place, steps)

    # --- telling --------------------------------------------------------------------------------

    def tell(self, room: str, place: int, steps: Steps, *, seq: int = 0) -> None:
        began = self.order.last(room)
        self._offer(room, place, steps)
        if (packet := steps.only) is not None:
            self._say(f"r:{room}", b"m", b"%08x%08x%b" % (place, seq, packet.payload))
            return
        body = b"%08x%b" % (place, steps.encode())
        if not steps.moves:
            self._say(f"r:{room}", b"s", body)
            return
        self._see_to_skipped(room, place, steps, began)
        confirmed = self._ask(f"r:{room}", b"s", body)
        self._moves[room, place] = confirmed
        confirmed.add_done_callback(lambda _: self._moves.pop((room, place), None))
        users = steps.concerning()
        whole = b"%b\n%b" % (room.encode(), body)
        for channel in [f"u:{one}" for one in users] if len(users) <= SINGLY else [ALL]:
            self._say(channel, b"u", whole)

    def _offer(self, room: str, place: int, steps: Steps) -> None:
        if room in self.order or steps.only is None:
            self.order.offer(room, place, steps)
            if room not in self._listening:
                self.order.forget(room)

    def _see_to_skipped(self, room: str, place: int, steps: Steps, began: int | None) -> None:
        """A room that began here for somebody else began behind this change, or is about to: whom it
        brings in is found on record."""
        skipped = room in self.order and (began is None or began >= place)
        if skipped and any(
            one in self._sockets and not self.hosts(one, room) for one in steps.brought_in()
        ):
            self.missed()

    def behind(self, room: str, after: int, known: int) -> None:
        if room in self.order:
            self.order.behind(room, after, known)

    async def confirmed(self, room: str, place: int) -> None:
        if (confirmed := self._moves.get((room, place))) is not None:
            await asyncio.wait([confirmed])

    def emit(self, room: str, event_name: str, payload: Any) -> None:
        packet = event(event_name, payload)
        self.hear(room, packet)
        self._say(f"r:{room}", b"e", packet.payload)

    def signal(self, name: str, data: Any, *, room: str) -> None:
        self._say(f"r:{room}", b"g", orjson.dumps([name, data]))

    async def signalled(self, name: str, data: Any) -> None:
        await asyncio.wait([self._ask(ALL, b"g", orjson.dumps([name, data]))])

    def neighbours(self, rooms: Iterable[str], event: str, payload: Any, *, but: str) -> None:
        rooms = list(rooms)
        super().neighbours(rooms, event, payload, but=but)
        if not self._near:
            self._loop.call_soon(self._tell_neighbours)
        self._near.append((rooms, event, payload, but))

    def _tell_neighbours(self) -> None:
        near, self._near = self._near, []
        self._say(ALL, b"p", orjson.dumps(near))

    def _say(self, channel: str, kind: bytes, body: bytes) -> None:
        self._channels.publish(channel, b"%b%b00000000%b" % (kind, self._me, body))

    def _ask(self, channel: str, kind: bytes, body: bytes) -> asyncio.Future[None]:
        """This node is among those who answer, if it hears the channel: Redis counts it then."""
        number, future = self._questions.ask()
        if not self._channels.up:
            self._questions.give_up()
        self._channels.publish(
            channel,
            b"%b%b%08x%b" % (kind, self._me, number, body),
            partial(self._questions.reached, number),
        )
        return future

    # --- hearing --------------------------------------------------------------------------------

    def hear_node(self, channel: str, message: bytes) -> None:
        """What was said on a channel."""
        try:
            if message[1:17] != self._me:
                self._kinds[message[:1]](channel, message)
            elif message[17:_HEAD] != _NO_QUESTION:
                self._hear_own(channel, message)
        except Exception:
            # From a node of another version, or from nobody of ours; there may be many.
            if (at := time.monotonic()) >= self._complain_at:
                self._complain_at = at + COMPLAIN_S
                log.exception("what was said between the nodes is not understood", channel=channel)
            self.missed()

    def _hear_own(self, channel: str, message: bytes) -> None:
        if channel == ALL:
            self._answer(self._me.decode(), message[17:_HEAD])
        else:
            self._answer_behind(channel[2:], message)

    def _hear_message(self, channel: str, message: bytes) -> None:
        room = channel[2:]
        place, seq = int(message[25:33], 16), int(message[33:41], 16)
        if seq:
            self.elsewhere(room, place, seq)
        if room in self.order:
            self.order.offer(room, place, Steps.of_packet(Packet(message[41:])))

    def _hear_steps(self, channel: str, message: bytes) -> None:
        room, place = channel[2:], int(message[25:33], 16)
        if room in self.order:
            self.order.offer(room, place, Steps.decode(message[33:]))
        if message[17:_HEAD] != _NO_QUESTION:
            self._answer_behind(room, message)

    def _answer_behind(self, room: str, message: bytes) -> None:
        """Confirm what was asked when it has been performed here."""
        node, question, place = message[1:17].decode(), message[17:_HEAD], int(message[25:33], 16)
        last = self.order.last(room)
        if room in self.order and (last is None or last < place):
            self._owed.setdefault(room, []).append((place, node, question))
        else:
            self._answer(node, question)

    def _answer(self, node: str, question: bytes) -> None:
        if node == self._me.decode():
            self._questions.answered(int(question, 16))
        else:
            self._say(f"n:{node}", b"y", question)

    def _heard(self, room: str, place: int) -> None:
        if room not in self._owed:
            return
        owed = self._owed.pop(room)
        for one in owed:
            if one[0] <= place:
                self._answer(one[1], one[2])
            else:
                self._owed.setdefault(room, []).append(one)

    def _hear_of_user(self, channel: str, message: bytes) -> None:
        name, _, body = message[_HEAD:].partition(b"\n")
        room, place, steps = name.decode(), int(body[:8], 16), Steps.decode(body[8:])
        here = [one for one in steps.concerning() if self.sockets_of(one)]
        if not here:
            return
        # They are looking up their rooms just now, and may have looked before this.
        steps.mark(room, self._arrivals)
        began = self.order.last(room)
        self._offer(room, place, steps)
        self._see_to_skipped(room, place, steps, began)

    def _hear_event(self, channel: str, message: bytes) -> None:
        self.hear(channel[2:], Packet(message[_HEAD:]))

    def _hear_signal(self, channel: str, message: bytes) -> None:
        self.handle(*orjson.loads(message[_HEAD:]))
        if (question := message[17:_HEAD]) != _NO_QUESTION:
            self._answer(message[1:17].decode(), question)

    def _hear_neighbours(self, channel: str, message: bytes) -> None:
        for rooms, name, payload, but in orjson.loads(message[_HEAD:]):
            super().neighbours(rooms, name, payload, but=but)

    def _hear_answer(self, channel: str, message: bytes) -> None:
        self._questions.answered(int(message[_HEAD:], 16))
