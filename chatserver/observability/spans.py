"""What follows an event or request through the server: for traces, when they are on.

Who works on a request finds its span `here`; what waits in the log for its turn carries a Trail. Without
tracing there is neither, and finding that out costs some nanoseconds.
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


_here: ContextVar[Span | None] = ContextVar("here", default=None)


def enter(span: Span | None) -> None:
    """What is done in this context from now on is done for this span; None: for none."""
    _here.set(span)


def here() -> Span | None:
    """The span of what is being worked on. None when it has ended: what a request has left behind, such
    as a timer, is no part of it."""
    span = _here.get()
    return None if span is None or span.over else span


def traced(span: Span | None) -> dict[str, str]:
    """For the log's lines."""
    return {} if span is None else {"trace": span.trace_id}


def trail() -> Trail | None:
    """For what is put into the log's queue here."""
    span = here()
    return None if span is None else Trail(span)


class Trail:
    """A change on its way: it waits, is committed together with others, and is announced."""

    __slots__ = ("_part", "of")

    def __init__(self, of: Span) -> None:
        self.of = of
        self._part: Span | None = of.below("log wait")

    def commit(self, together: Sequence[Trail], changes: int) -> None:
        """`changes`: how many there are in the batch, followed or not."""
        self.done()
        links = [one.of for one in together[:LINKS] if one is not self]
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
