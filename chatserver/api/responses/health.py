"""The responses of /health and /ready."""

from __future__ import annotations

from ..requests.schema import Text
from .response import Answer, one_of


class Alive(Answer):
    status = one_of("ok")


class Ready(Answer):
    """A standalone relay has also `relay`."""

    status = one_of("ready")
    mongo = one_of("ok")


class NotReady(Answer):
    """`starting` comes with a `reason`: what the node does before it can take clients. `unavailable` comes with the
    state of `mongo`; `is stalled`: the database responds, but for ten seconds none of this node's operations has
    succeeded."""

    sometimes = frozenset({"mongo", "reason"})
    status = one_of("starting", "unavailable", "draining")
    reason = Text()
    mongo = one_of("does not answer", "is stalled")
