"""A Socket.IO server: python-socketio with its hot paths replaced. It does not depend on the chat.

python-socketio and python-engineio are pinned to exact versions. Docstrings name each of their functions
that is overridden here. See README.md.
"""

from typing import Any

from .engine.engine import EngineServer
from .server.fast_path import Acceptor, Connection, Refused, attach_acceptor
from .server.server import RealtimeServer

__all__ = [
    "Acceptor",
    "Connection",
    "EngineServer",
    "RealtimeServer",
    "Refused",
    "attach_acceptor",
]


def __getattr__(name: str) -> Any:
    """Import `SpreadClients`, the former name of `redis_manager.RedisClientManager`, on first use."""
    if name == "SpreadClients":
        from .redis_manager import SpreadClients  # noqa: PLC0415

        return SpreadClients
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
