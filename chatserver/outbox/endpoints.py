"""Where events go: the endpoints, and the slots by which the relays share what is due."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from .event import TYPES

PARTITIONS = 16
"""Shares of the work: so many relays at most are busy at the same time. An ordering key is always in the
same share, so this number cannot change while events are due."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    name: str
    """Letters, digits and `-`: it is part of what is stored."""
    url: str = field(repr=False)
    """Not shown: it may hold a password."""
    secrets: tuple[str, ...] = field(repr=False)
    """Newest first: each signs, so that a secret can be rotated."""
    types: frozenset[str] = frozenset(TYPES)
    """The events that it is told of."""


def slot_of(endpoint_name: str, partition: int) -> str:
    """What a record has in `due` while the event waits for an endpoint."""
    return f"{endpoint_name}:{partition:02d}"


def endpoint_of(slot: str) -> str:
    """The name of the endpoint that a slot belongs to."""
    return slot.partition(":")[0]


def partition_of(ordering_key: str) -> int:
    """The share of an ordering key: of the events of one conversation or user, which are sent in order."""
    return zlib.crc32(ordering_key.encode()) % PARTITIONS


def slots_of(endpoint_name: str) -> list[str]:
    """All slots of an endpoint."""
    return [slot_of(endpoint_name, partition) for partition in range(PARTITIONS)]


class Routes:
    """Which endpoints are told of what."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
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
        """What goes into `due` of an event's record; empty: nobody wants to hear of it.

        The list is shared: it must not be changed.
        """
        return self._slots[event_type][partition_of(ordering_key)]
