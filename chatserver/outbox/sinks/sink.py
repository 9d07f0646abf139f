"""A sink takes events to one endpoint. It knows its protocol; the relay knows everything else.

The relay reads the due events, keeps the order of each ordering key, retries with back-off, gives up,
records every result durably, counts, traces, and stops a call that takes too long. A sink makes attempts.

What the relay promises to a sink:

- At most `concurrency` calls of `deliver` run at a time, each with 1 to `max_batch` events.
- Events of one key come in order. The next ones come when the results of the last ones are durable.
- Two events of one key are in one call only if the sink `keeps_order`.
- A call that lasts longer than `limit_s` is cancelled, and its events have failed.
- `close` is called once, after the last call has ended, and before another relay may send the same keys.

What a sink promises to the relay:

- `deliver` returns one result per event, in their order. A bad event does not fail its neighbours.
- "delivered" means that the receiver has it, durably: it is never sent again.
- When `deliver` has returned or was cancelled, the sink sends nothing more of these events.
- A sink that `keeps_order` sends no event after one of the same key that failed; it has failed, too. (The
  relay sends both again.) After an event that is "gone" it continues.
- It opens its connection in `deliver`, and again after an error that the connection or the producer does
  not survive. The endpoint may be down when the relay starts.
- No text of its own, in results, errors and log lines, contains a secret, the URL or a part of it.

A crash repeats the events of the calls in flight, under the same ids. So a receiver sees the order of a key
go back by one event, or by one batch if the sink `keeps_order`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..endpoints import Endpoint, SinkOptions
from ..event import Event


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of one attempt. `detail` is for people: at most 200 characters, no secret, no URL."""

    outcome: Literal["delivered", "failed", "gone"]
    """`failed`: send it again later. `gone`: do not send this event here again."""
    detail: str = ""
    retry_after_s: float = 0
    """The pause that the receiver requested."""


class Unreachable(Exception):
    """The endpoint does not accept connections. The message says why, and contains no secret."""


class Sink(ABC):
    """The sink of one endpoint."""

    kind: ClassVar[str]
    """The word for the endpoint in output for people: "webhook". It names spans and the doctor's findings."""
    needs_secret: ClassVar[bool] = False
    """True if the endpoint needs a `secret` in the settings."""

    max_batch: int = 1
    keeps_order: bool = False
    concurrency: int = 1
    limit_s: float | None = 30.0
    """Seconds. None, and no timer, for a sink that is certain to end by itself."""

    @abstractmethod
    def __init__(self, endpoint: Endpoint) -> None:
        """Opens nothing."""

    @staticmethod
    @abstractmethod
    def check(url: str, options: SinkOptions) -> None:
        """Check a URL of the settings, at the start of every process. Raises BadEndpoint."""

    @abstractmethod
    async def deliver(self, events: Sequence[Event], /) -> Sequence[Delivery]:
        """Make one attempt for each event. Raises only CancelledError: any other error fails all events."""

    async def probe(self) -> str:
        """Connect, without sending an event. Returns what to tell the operator. Raises Unreachable."""
        return "is not checked"

    async def close(self) -> None:  # noqa: B027  not every sink has something to close
        """Send what is still buffered and close the connection, within a second."""
