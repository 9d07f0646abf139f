"""The table of operations is complete and consistent: doors and documents are made from it."""

from __future__ import annotations

from typing import Any

import pytest

from chatserver.api.auth import Tokens
from chatserver.api.operations.operation import Event, Operation
from chatserver.api.operations.table import FOR_USERS, INTERNAL
from chatserver.api.rate_limits import Limits, Rate
from chatserver.api.requests.schema import MAX_PARTICIPANTS
from chatserver.api.requests.users import NoPayload
from chatserver.api.sockets.client_events import socket_operations
from chatserver.api.sockets.server_events import SERVER_EVENTS
from chatserver.api.sockets.token_expiry import Expiry
from chatserver.chat.participants import NewParticipants
from chatserver.errors import RateLimited
from chatserver.outbox.event import TYPES
from chatserver.realtime.rooms.rooms import Rooms

NOT_CAUSED = {"connected", "error", "user:online", "user:offline"}
"""Events about a connection, which no operation causes."""


def every() -> list[Operation]:
    no_log: Any = None
    rooms = Rooms(no_log)
    of_sockets = [operation for _, operation in socket_operations(rooms, Tokens(()), Expiry(rooms))]
    return [
        *FOR_USERS,
        *INTERNAL,
        *(operation for operation in of_sockets if operation not in FOR_USERS),
    ]


def test_names_events_and_routes_are_unique() -> None:
    operations = every()
    assert len({operation.name for operation in operations}) == len(operations)
    events = [operation.event.name for operation in operations if operation.event]
    assert len({*events}) == len(events)
    routes = [(route.method, route.path) for operation in operations if (route := operation.route)]
    assert len({*routes}) == len(routes)


def test_whatever_sockets_and_webhooks_receive_is_caused_by_an_operation() -> None:
    operations = every()
    announced = {name for operation in operations for name in operation.announces}
    replies = {operation.event.reply for operation in operations if operation.event}
    assert announced | replies - {None} | NOT_CAUSED == {event.name for event in SERVER_EVENTS}
    told = {kind for operation in operations for kind in operation.webhooks}
    assert told | {"user.online", "user.offline"} == {*TYPES}


def test_a_cost_is_of_a_key_of_the_request() -> None:
    for operation in every():
        if (cost := operation.cost) is not None:
            assert cost.key in operation.request().fields, operation.name


def test_a_channel_of_100_000_can_be_filled_by_calls_one_after_another() -> None:
    (add,) = (operation for operation in FOR_USERS if operation.name == "conversations.add")
    cost, route = add.cost, add.route
    assert cost is not None
    assert route is not None
    limits = Limits(on=True, sockets=0, stale_s=1)
    thousand = NewParticipants("talk", ("someone",) * MAX_PARTICIPANTS)

    def charge(calls: int) -> None:
        for _ in range(calls):
            limits.spend("admin", "add", route.limit)
            limits.charge("admin", "add", route.limit, cost, thousand)

    charge(100)
    with pytest.raises(RateLimited):
        charge(2)  # the first of them may find a token


async def nothing(chat: Any, caller: Any, request: Any) -> Any:
    """Do nothing."""


def test_an_operation_at_one_door_must_say_why() -> None:
    event = Event("nothing", Rate(1))
    with pytest.raises(ValueError, match="needs a reason"):
        Operation("none.nothing", NoPayload, nothing, None, event=event)
    assert Operation("none.nothing", NoPayload, nothing, None, event=event, only="A test.").only
