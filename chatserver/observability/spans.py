"""What follows an event or request through the server: for traces, when they are on.

`current_span` is the span of the request that is being worked on; a change that waits in the log carries a
ChangeTrace. Without tracing there is neither, and finding that out costs some nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Protocol

LINKS = 16
"""Other requests of the same batch that a commit is linked to: with all of them, a batch of a hundred
would have ten thousand links."""


About = Mapping[str, str | int]
"""Attributes of a span."""
NOTHING: About = MappingProxyType({})


class Span(Protocol):
    """A piece of work that is under way, in a trace that is kept."""

    @property
    def trace_id(self) -> str: ...

    @property
    def traceparent(self) -> str:
        """For what goes on elsewhere, as W3C's Trace Context has it."""

    @property
    def over(self) -> bool: ...

    def below(self, name: str, links: Sequence[Span] = (), about: About = NOTHING) -> Span:
        """Begin a part of it; linked to other work that has a share in that."""

    def end(self, code: str = "OK", about: About = NOTHING) -> None:
        """`code`: OK, or an error code."""


_current: ContextVar[Span | None] = ContextVar("current_span", default=None)


def set_current_span(span: Span | None) -> None:
    """What is done in this context from now on is done for this span; None: for none."""
    _current.set(span)


def current_span() -> Span | None:
    """The span of the request that is being worked on. None when it has ended: a timer that a request
    has left behind, for one, is no part of it."""
    span = _current.get()
    return None if span is None or span.over else span


def traced(span: Span | None) -> dict[str, str]:
    """For the log's lines."""
    return {} if span is None else {"trace": span.trace_id}


def change_trace() -> ChangeTrace | None:
    """For what is put into the log's queue here."""
    span = current_span()
    return None if span is None else ChangeTrace(span)


class ChangeTrace:
    """A change on its way: it waits, is committed together with others, and is announced."""

    __slots__ = ("_part", "of")

    def __init__(self, of: Span) -> None:
        self.of = of
        self._part: Span | None = of.below("log wait")

    def commit(self, together: Sequence[ChangeTrace], changes: int) -> None:
        """`changes`: how many there are in the batch, followed or not."""
        self.done()
        links = [trace.of for trace in together[:LINKS] if trace is not self]
        self._part = self.of.below("log commit", links, {"chat.batch.changes": changes})

    def announce(self) -> None:
        """It is committed."""
        self.done()
        self._part = self.of.below("announce")

    def done(self) -> None:
        """What it was at has ended."""
        part, self._part = self._part, None
        if part is not None:
            part.end()
