"""Endpoints, and the slots by which the relays divide the due events among themselves."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .event import TYPES

PARTITIONS = 16
"""Ordering keys are hashed into this many partitions, so at most this many relays have work at the same
time. The number cannot change while events are due: keys would move to other partitions."""


class BadEndpoint(Exception):
    """An endpoint is configured wrongly. The message says how, and contains no secret."""


@dataclass(frozen=True, kw_only=True)
class SinkOptions:
    """Settings for the sinks of all endpoints. A sink uses what applies to it."""

    timeout_s: float = 10.0
    """The limit for one attempt."""
    concurrency: int = 64
    """Attempts at the same time, per endpoint."""
    allow_link_local: bool = False


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A destination of events. Its URL's scheme selects the sink (sinks/registry.py)."""

    name: str
    """Lower-case letters, digits and `-`. It is stored with each due event."""
    url: str = field(repr=False)
    """Not in the repr: it may contain a password."""
    secrets: tuple[str, ...] = field(repr=False)
    """Newest first. Each signs every request, so that a secret can be rotated."""
    types: frozenset[str] = frozenset(TYPES)
    """The event types that it receives."""
    options: SinkOptions = SinkOptions()


def shown(url: str) -> str:
    """The URL without the parts that may be secret: user, password and query."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2].lower()
    return f"{parts.scheme}://{hosts}{parts.path}"


def slot_of(endpoint_name: str, partition: int) -> str:
    """The element of a record's `due` that says: this endpoint has not had the event yet."""
    return f"{endpoint_name}:{partition:02d}"


def endpoint_of(slot: str) -> str:
    """The name of the endpoint that a slot belongs to."""
    return slot.partition(":")[0]


def partition_of(ordering_key: str) -> int:
    """The partition of an ordering key."""
    return zlib.crc32(ordering_key.encode()) % PARTITIONS


def slots_of(endpoint_name: str) -> list[str]:
    """An endpoint's slots, one per partition."""
    return [slot_of(endpoint_name, partition) for partition in range(PARTITIONS)]


class Routes:
    """The endpoints of each event type."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.exist = bool(endpoints)
        """False if no endpoint receives anything."""
        self._slots = {
            type_: [
                [
                    slot_of(endpoint.name, partition)
                    for endpoint in endpoints
                    if type_ in endpoint.types
                ]
                for partition in range(PARTITIONS)
            ]
            for type_ in TYPES
        }

    def slots(self, event_type: str, ordering_key: str) -> list[str]:
        """The value of `due` for the record of an event; empty if no endpoint receives the type.

        The list is shared: callers must not change it.
        """
        return self._slots[event_type][partition_of(ordering_key)]
