"""What balancers and orchestrators are told."""

from __future__ import annotations

from .response import Answer, one_of


class Alive(Answer):
    status = one_of("ok")


class Ready(Answer):
    """A relay that runs by itself has `relay` in place of `sockets`."""

    status = one_of("ready")
    mongo = one_of("ok")
    sockets = one_of("ok")


class NotReady(Answer):
    """`sockets`: whether the port for clients listens. While it drains only the `status` is told, and
    nothing of the sockets while the database does not answer."""

    sometimes = frozenset({"mongo", "sockets"})
    status = one_of("unavailable", "draining")
    mongo = one_of("does not answer", "ok")
    sockets = one_of("is not ready", "ok")
