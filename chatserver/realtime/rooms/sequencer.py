"""Delivers the changes of each room in the order of its log: none is missing, none comes twice.

A change that comes too early waits in a reorder buffer for those before it. What does not come within
REORDER_WAIT_S is read from the log. It makes no difference whether a change was made here, was announced
by another node, or was read from the log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from .update import RoomState, RoomUpdate

log = structlog.get_logger(__name__)

REORDER_WAIT_S = 0.05
"""How long a gap may last before the log is read: a change and what overtook it are milliseconds apart."""
RETRY_S = 0.5
PAGE = 500
"""Changes in one reading."""
MAX_EMPTY_READS = 9
"""Reads that find nothing, each after twice the time of the last. When one more finds nothing, the
announcement is discarded: the database was restored to an earlier state, or the announcement was wrong.
About 25 s."""
READERS = 32
"""Gaps that are read at once: after an outage many rooms have one."""


class LogSource(Protocol):
    """Reads the log of rooms."""

    async def positions(self, rooms: Iterable[str]) -> dict[str, int]:
        """The offset of each room; those that have ended are left out. Raises Unreadable."""

    async def after(self, room: str, offset: int) -> list[tuple[int, RoomUpdate]]:
        """The changes with a higher offset, in order: the first PAGE of them.

        Raises Unreadable when the log cannot be read now.
        """


class Unreadable(Exception):
    """The log cannot be read now."""


class _Sequence:
    __slots__ = ("again", "early", "empty_reads", "filling", "known", "last", "timer")

    def __init__(self, last: int | None) -> None:
        self.last = last
        """The offset that was applied last; None until the position of the room is known."""
        self.known = 0
        """The highest offset that is known to exist."""
        self.early: dict[int, RoomUpdate] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.filling = False
        self.again = False
        """Read once more: the read under way may have begun too early."""
        self.empty_reads = 0
        """How often in a row a read did not find what should be there."""

    @property
    def lacks(self) -> bool:
        """Whether a change is missing: one that is known to exist, or one before those that came early."""
        return bool(self.early) or (self.last is not None and self.known > self.last)


class Sequencer:
    """One sequence of changes for each room that is followed here."""

    def __init__(
        self, state: RoomState, source: LogSource, reached: Callable[[str, int], None]
    ) -> None:
        """`reached(room, offset)` is called when all up to `offset` has been applied."""
        self._state = state
        self._source = source
        self._reached = reached
        self._sequences: dict[str, _Sequence] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers = asyncio.Semaphore(READERS)
        self._closed = False
        self.readings = 0
        """How often changes were read from the log because they did not come."""

    # --- rooms come and go ----------------------------------------------------------------------

    def __contains__(self, room: str) -> bool:
        return room in self._sequences

    def rooms(self) -> list[str]:
        return list(self._sequences)

    def last(self, room: str) -> int | None:
        sequence = self._sequences.get(room)
        return sequence.last if sequence is not None else None

    @property
    def lacking(self) -> int:
        """How many rooms wait for a change that is under way or is being read."""
        return sum(1 for sequence in self._sequences.values() if sequence.lacks or sequence.filling)

    def expect(self, room: str) -> None:
        """Keep the changes that come until `begin` tells the position of the room."""
        self._sequences.setdefault(room, _Sequence(None))

    def begin(self, room: str, last: int) -> None:
        """Apply the changes after `last`. A room that has begun goes on as it was."""
        sequence = self._sequences.setdefault(room, _Sequence(None))
        if sequence.last is None:
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

    # --- changes come ---------------------------------------------------------------------------

    def offer(self, room: str, offset: int, update: RoomUpdate) -> None:
        """Take a change, and apply it when all before it are. A room that is not followed begins with it."""
        sequence = self._sequences.get(room)
        if sequence is None:
            sequence = self._sequences[room] = _Sequence(offset - 1)
        last = sequence.last
        if last is not None and offset == last + 1 and not sequence.filling:
            self._apply(room, sequence, offset, update)
            if sequence.timer is not None or sequence.early:
                self._go_on(room, sequence)
        elif last is None or offset > last:
            sequence.early[offset] = update
            self._wait(room, sequence)

    def behind(self, room: str, after: int, known: int) -> None:
        """The log has changes up to `known`. A room that is not followed begins after `after`."""
        sequence = self._sequences.get(room)
        if sequence is None:
            sequence = self._sequences[room] = _Sequence(after)
        sequence.known = max(sequence.known, known)
        if sequence.last is not None and sequence.last < known:
            self._wait(room, sequence)

    def look(self, room: str, known: int = 0) -> None:
        """Read at once what the log has beyond what was applied, up to `known` at least."""
        sequence = self._sequences.get(room)
        if sequence is not None:
            sequence.known = max(sequence.known, known)
            sequence.again = True
            self._fill(room)

    def _go_on(self, room: str, sequence: _Sequence) -> None:
        """Apply the waiting changes that are next. If one is missing behind them, a new wait begins."""
        if sequence.filling or not self._apply_waiting(room, sequence):
            return
        if sequence.timer is not None:
            sequence.timer.cancel()
            sequence.timer = None
        if sequence.lacks:
            self._wait(room, sequence)

    def _apply_waiting(self, room: str, sequence: _Sequence) -> bool:
        """Returns whether the room is still followed: a change that was applied may have emptied it."""
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
        except Exception:  # the room goes on with the next
            log.exception("a change could not be told", room=room, offset=offset)
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
                    found = await self._source.after(room, sequence.last)
                for offset, update in found:
                    if offset > sequence.last and self._sequences.get(room) is sequence:
                        self._apply(room, sequence, offset, update)
                if self._sequences.get(room) is not sequence:
                    return
                if not self._apply_waiting(room, sequence):
                    return
                # Not until nothing is found: in a busy room there would always be more to read.
                if len(found) < PAGE and not sequence.again:
                    break
        except Unreadable:
            pause = RETRY_S * random.uniform(0.5, 1)
        except Exception:  # the room goes on with what comes next
            log.exception("a gap could not be filled", room=room, after=sequence.last)
            reached = min(sequence.early, default=sequence.known + 1) - 1
            sequence.last = max(sequence.last, reached)
        finally:
            sequence.filling = False
        if self._sequences.get(room) is sequence and not self._closed:
            self._rest(room, sequence, pause)

    def _rest(self, room: str, sequence: _Sequence, pause: float) -> None:
        """After a read: wait for what the log does not have yet, longer each time."""
        if pause:
            self._wait(room, sequence, pause)
        elif self._apply_waiting(room, sequence) and sequence.lacks:
            sequence.empty_reads += 1
            if sequence.empty_reads > MAX_EMPTY_READS:
                log.warning("what was told of is not on record", room=room, after=sequence.last)
                sequence.early.clear()
                sequence.known = sequence.empty_reads = 0
            else:
                self._wait(room, sequence, REORDER_WAIT_S * 2 ** (sequence.empty_reads - 1))
