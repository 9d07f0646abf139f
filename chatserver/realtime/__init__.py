"""The way to every socket: python-socketio with its hot paths replaced. It knows nothing of chat.

python-socketio and python-engineio are pinned exactly: the functions that are overridden here are
named in the docstrings, and were read in the pinned versions. See README.md.
"""

from typing import Any

from .engine.engine import EngineServer
from .server.fast_path import Connection, Dispatcher, Refused, attach_dispatcher
from .server.server import RealtimeServer

__all__ = [
    "Connection",
    "Dispatcher",
    "EngineServer",
    "RealtimeServer",
    "Refused",
    "attach_dispatcher",
]


def __getattr__(name: str) -> Any:
    """`SpreadClients`, the former name of `redis_manager.RedisClientManager`, is imported when it is used."""
    if name == "SpreadClients":
        from .redis_manager import SpreadClients  # noqa: PLC0415

        return SpreadClients
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
