"""The way to every socket: python-socketio with its hot paths replaced. It knows nothing of chat.

python-socketio and python-engineio are pinned exactly: the functions that are overridden here are
named in the docstrings, and were read in the pinned versions. See README.md.
"""

from .engine.engine import EngineServer
from .redis_manager import SpreadClients
from .server.fast_path import Connection, Dispatcher, Refused, attach_dispatcher
from .server.server import RealtimeServer

__all__ = [
    "Connection",
    "Dispatcher",
    "EngineServer",
    "RealtimeServer",
    "Refused",
    "SpreadClients",
    "attach_dispatcher",
]
