"""Spans that follow an event or request through the server, if tracing is on.

CURRENT_SPAN holds the span of the request being handled. A change queued in the log carries a ChangeTrace. Without
tracing both are None, and the check costs a few nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Protocol

LINKS = 16
"""Maximum number of links from a commit to other requests of its batch. Without a limit, a batch of a hundred
would have ten thousand links."""


About = Mapping[str, str | int]
"""Attributes of a span."""
NOTHING: About = MappingProxyType({})


class Span(Protocol):
    """An operation in progress, in a sampled trace."""

    @property
    def trace_id(self) -> str: ...

    @property
    def traceparent(self) -> str:
        """The id of this span as in W3C Trace Context, for work that continues in another process."""

    @property
    def over(self) -> bool: ...

    def below(self, name: str, links: Sequence[Span] = (), about: About = NOTHING) -> Span:
        """Starts a child span. `links`: other spans that take part in its work."""

    def end(self, code: str = "OK", about: About = NOTHING) -> None:
        """`code`: OK, or an error code."""


CURRENT_SPAN: ContextVar[Span | None] = ContextVar("current_span", default=None)


def set_current_span(span: Span | None) -> None:
    """Attributes further work in this context to `span`; None: to no span."""
    CURRENT_SPAN.set(span)


def current_span() -> Span | None:
    """Returns the span of the request being handled. None if that has ended: a timer that outlives its
    request, for example, does not belong to the request."""
    span = CURRENT_SPAN.get()
    return None if span is None or span.over else span


def traced(span: Span | None) -> dict[str, str]:
    """Fields for log lines."""
    return {} if span is None else {"trace": span.trace_id}


def change_trace() -> ChangeTrace | None:
    """Returns a trace for a change that is about to be queued in the log."""
    span = current_span()
    return None if span is None else ChangeTrace(span)


class ChangeTrace:
    """The spans of a change: its wait in the queue, its commit with others, and its announcement."""

    __slots__ = ("_part", "of")

    def __init__(self, of: Span) -> None:
        self.of = of
        self._part: Span | None = of.below("log wait")

    def commit(self, together: Sequence[ChangeTrace], changes: int) -> None:
        """`together`: the traced changes of the batch. `changes`: the number of all its changes."""
        self.done()
        links = [trace.of for trace in together[:LINKS] if trace is not self]
        self._part = self.of.below("log commit", links, {"chat.batch.changes": changes})

    def announce(self) -> None:
        """The change is committed."""
        self.done()
        self._part = self.of.below("announce")

    def done(self) -> None:
        """Ends the current span, if there is one."""
        part, self._part = self._part, None
        if part is not None:
            part.end()
