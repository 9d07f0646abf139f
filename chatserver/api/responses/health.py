"""The responses of /health and /ready."""

from __future__ import annotations

from .response import Answer, one_of


class Alive(Answer):
    status = one_of("ok")


class Ready(Answer):
    """A standalone relay has `relay` instead of `sockets`."""

    status = one_of("ready")
    mongo = one_of("ok")
    sockets = one_of("ok")


class NotReady(Answer):
    """`sockets`: the state of the port for clients. A node that drains sends only `status`. `sockets` is
    missing while the database does not respond.
    `is stalled`: it responds, but for ten seconds none of this node's operations has succeeded."""

    sometimes = frozenset({"mongo", "sockets"})
    status = one_of("unavailable", "draining")
    mongo = one_of("does not answer", "is stalled", "ok")
    sockets = one_of("is not ready", "ok")
