"""Applies the updates of each room in offset order, each exactly once.

An update that arrives early waits in a reorder buffer. If a missing update does not arrive within
REORDER_WAIT_S, the sequencer reads it from the log. Updates are treated alike, whether this node committed
them, another node announced them, or they were read from the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from ..memory import Memory
from .update import RoomState, RoomUpdate

log = structlog.get_logger(__name__)

REORDER_WAIT_S = 0.05
"""How long a gap may last before the log is read. Updates that overtake each other are milliseconds apart."""
RETRY_S = 0.5
PAGE = 500
"""Updates in one read of the log."""
MAX_EMPTY_READS = 9
"""Reads that may fail to find an announced update. The pause doubles after each of them, to about 25 s in
all. If the next read also fails to find it, the announcement is discarded: it was wrong, or the database
was restored to an earlier state."""
MAX_EARLY = 1000
"""Updates of one room in the reorder buffer. Later ones are read from the log: while the log cannot be read, a busy
room would fill the memory."""
READERS = 32
"""The most gaps that are read at the same time. After an outage many rooms have one."""


class LogSource(Protocol):
    """Reads the log of rooms."""

    @property
    def unreadable(self) -> type[Exception]:
        """The error that the methods raise if the log cannot be read now."""

    async def positions(self, rooms: Iterable[str]) -> dict[str, int]:
        """Returns the last offset of each room, without the rooms that were deleted."""

    async def after(self, room: str, offset: int, limit: int) -> list[tuple[int, RoomUpdate]]:
        """Returns the first `limit` updates with a higher offset, in order."""


class _Sequence:
    __slots__ = ("again", "early", "empty_reads", "filling", "known", "last", "timer")

    def __init__(self, last: int | None) -> None:
        self.last = last
        """The last offset that was applied; None until `begin` sets the room's position."""
        self.known = 0
        """The highest offset that the log is known to have."""
        self.early: dict[int, RoomUpdate] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.filling = False
        self.again = False
        """True if the log must be read once more, because the current read may have started too early."""
        self.empty_reads = 0
        """The number of reads in a row that did not find a missing update."""

    @property
    def lacks(self) -> bool:
        """True if an update is missing: one that is known to exist, or one before those that arrived early."""
        return bool(self.early) or (self.last is not None and self.known > self.last)


class Sequencer:
    """The sequences of updates of all rooms that this node follows."""

    def __init__(
        self, state: RoomState, source: LogSource, reached: Callable[[str, int], None]
    ) -> None:
        """`reached(room, offset)` is called when all updates up to `offset` have been applied."""
        self._state = state
        self._source = source
        self._reached = reached
        self._sequences: dict[str, _Sequence] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers = asyncio.Semaphore(READERS)
        self._closed = False
        self.readings = 0
        """How often the log was read for updates that did not arrive."""

    def watch(self, memory: Memory) -> None:
        memory("followed rooms", lambda: len(self._sequences) + len(self._tasks), None)
        memory(
            "early updates",
            lambda: sum(len(sequence.early) for sequence in self._sequences.values()),
            None,
        )

    # --- following rooms ------------------------------------------------------------------------

    def __contains__(self, room: str) -> bool:
        return room in self._sequences

    def rooms(self) -> list[str]:
        return list(self._sequences)

    def last(self, room: str) -> int | None:
        sequence = self._sequences.get(room)
        return sequence.last if sequence is not None else None

    @property
    def lacking(self) -> int:
        """The number of rooms that wait for a missing update."""
        return sum(1 for sequence in self._sequences.values() if sequence.lacks or sequence.filling)

    def expect(self, room: str) -> None:
        """Buffer the room's updates until `begin` sets its position."""
        self._sequences.setdefault(room, _Sequence(None))

    def begin(self, room: str, last: int) -> None:
        """Start to apply the updates after `last`. Does nothing if the room has a position already."""
        sequence = self._sequences.setdefault(room, _Sequence(None))
        if sequence.last is None:
            # Users who are connected already enter with updates that arrived while the position was read.
            for offset, update in sequence.early.items():
                if update.moves:
                    last = min(last, offset - 1)
            sequence.last = last
            self._reached(room, last)
            self._go_on(room, sequence)
            if sequence.again:
                self._fill(room)

    def forget(self, room: str) -> None:
        sequence = self._sequences.pop(room, None)
        if sequence is not None and sequence.timer is not None:
            sequence.timer.cancel()

    async def close(self) -> None:
        self._closed = True
        for room in self.rooms():
            self.forget(room)
        while self._tasks:
            await asyncio.wait(self._tasks)

    # --- updates arrive -------------------------------------------------------------------------

    def offer(self, room: str, offset: int, update: RoomUpdate) -> None:
        """Apply the update when all updates before it are applied. A room that is not followed starts with
        this update."""
        sequence = self._sequences.get(room)
        if sequence is None:
            sequence = self._sequences[room] = _Sequence(offset - 1)
        last = sequence.last
        if last is not None and offset == last + 1 and not sequence.filling:
            self._apply(room, sequence, offset, update)
            if sequence.timer is not None or sequence.early:
                self._go_on(room, sequence)
        elif last is None or offset > last:
            if len(sequence.early) < MAX_EARLY:
                sequence.early[offset] = update
            else:
                sequence.known = max(sequence.known, offset)
            self._wait(room, sequence)

    def behind(self, room: str, after: int, known: int) -> None:
        """Wait for the updates up to `known`, then read them from the log if they have not arrived. A room
        that is not followed starts after `after`."""
        sequence = self._sequences.get(room)
        if sequence is None:
            sequence = self._sequences[room] = _Sequence(after)
        sequence.known = max(sequence.known, known)
        if sequence.last is not None and sequence.last < known:
            self._wait(room, sequence)

    def look(self, room: str, known: int = 0) -> None:
        """Read the updates that are not applied yet from the log, without waiting for them to arrive. The
        log has updates up to `known` at least."""
        sequence = self._sequences.get(room)
        if sequence is not None:
            sequence.known = max(sequence.known, known)
            sequence.again = True
            self._fill(room)

    def _go_on(self, room: str, sequence: _Sequence) -> None:
        """Apply the buffered updates that are next. Start a new wait if another one is missing after them."""
        if sequence.filling or not self._apply_waiting(room, sequence):
            return
        if sequence.timer is not None:
            sequence.timer.cancel()
            sequence.timer = None
        if sequence.lacks:
            self._wait(room, sequence)

    def _apply_waiting(self, room: str, sequence: _Sequence) -> bool:
        """Returns False if the room is not followed any more, because an update removed its last member."""
        assert sequence.last is not None  # noqa: S101
        early = sequence.early
        while (update := early.pop(sequence.last + 1, None)) is not None:
            self._apply(room, sequence, sequence.last + 1, update)
            if self._sequences.get(room) is not sequence:
                return False
        for offset in [offset for offset in early if offset <= sequence.last]:
            del early[offset]
        return True

    def _apply(self, room: str, sequence: _Sequence, offset: int, update: RoomUpdate) -> None:
        sequence.last = offset
        sequence.empty_reads = 0
        try:
            update.apply(self._state, room)
        except Exception:  # the room continues with the next update
            log.exception("a room update could not be applied", room=room, offset=offset)
        self._reached(room, offset)

    # --- gaps -----------------------------------------------------------------------------------

    def _wait(self, room: str, sequence: _Sequence, seconds: float | None = None) -> None:
        seconds = REORDER_WAIT_S if seconds is None else seconds
        if sequence.timer is None and not sequence.filling and sequence.last is not None:
            sequence.timer = asyncio.get_running_loop().call_later(seconds, self._fill, room)

    def _fill(self, room: str) -> None:
        sequence = self._sequences.get(room)
        if sequence is None or sequence.last is None or sequence.filling or self._closed:
            return
        if sequence.timer is not None:
            sequence.timer.cancel()
            sequence.timer = None
        sequence.filling = True
        task = asyncio.get_running_loop().create_task(self._read(room, sequence))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, room: str, sequence: _Sequence) -> None:
        assert sequence.last is not None  # noqa: S101
        pause = 0.0
        try:
            while self._sequences.get(room) is sequence:
                async with self._readers:
                    sequence.again = False
                    self.readings += 1
                    found = await self._source.after(room, sequence.last, PAGE)
                for offset, update in found:
                    if offset > sequence.last and self._sequences.get(room) is sequence:
                        self._apply(room, sequence, offset, update)
                if self._sequences.get(room) is not sequence:
                    return
                if not self._apply_waiting(room, sequence):
                    return
                # A short page is enough: in a busy room every read finds something.
                if len(found) < PAGE and not sequence.again:
                    break
        except self._source.unreadable:
            pause = RETRY_S * random.uniform(0.5, 1)
        except Exception:  # the room skips the gap and continues with the next update
            log.exception("a gap could not be filled", room=room, after=sequence.last)
            reached = min(sequence.early, default=sequence.known + 1) - 1
            sequence.last = max(sequence.last, reached)
        finally:
            sequence.filling = False
        if self._sequences.get(room) is sequence and not self._closed:
            self._rest(room, sequence, pause)

    def _rest(self, room: str, sequence: _Sequence, pause: float) -> None:
        """After a read, wait for what the log does not have yet. The wait doubles each time."""
        if pause:
            self._wait(room, sequence, pause)
        elif self._apply_waiting(room, sequence) and sequence.lacks:
            sequence.empty_reads += 1
            if sequence.empty_reads > MAX_EMPTY_READS:
                log.warning(
                    "discarded an announcement of an update that is not in the log",
                    room=room,
                    after=sequence.last,
                )
                sequence.early.clear()
                sequence.known = sequence.empty_reads = 0
            else:
                self._wait(room, sequence, REORDER_WAIT_S * 2 ** (sequence.empty_reads - 1))
