"""The way to every socket: python-socketio with its hot paths replaced. It knows nothing of chat.

python-socketio and python-engineio are pinned exactly: the functions that are overridden here are
named in the docstrings, and were read in the pinned versions. See README.md.
"""

from .direct import Connection, Direct, Dispatcher, Refused
from .engine import EngineServer
from .server import RealtimeServer
from .spread import SpreadClients

__all__ = [
    "Connection",
    "Direct",
    "Dispatcher",
    "EngineServer",
    "RealtimeServer",
    "Refused",
    "SpreadClients",
]
