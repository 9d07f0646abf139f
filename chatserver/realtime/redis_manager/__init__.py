"""A python-socketio client manager for several nodes with one Redis. The chat server does not use it.

It is a part of its own: nothing else of chatserver imports it. See README.md.
"""

from .manager import RedisClientManager

SpreadClients = RedisClientManager
"""The name of the class in earlier versions."""

__all__ = ["RedisClientManager", "SpreadClients"]
