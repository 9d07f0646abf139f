"""A python-socketio client manager for several nodes that share one Redis. See README.md.

The chat server does not use it.
"""

from .manager import RedisClientManager

SpreadClients = RedisClientManager
"""The name of the class in earlier versions."""

__all__ = ["RedisClientManager", "SpreadClients"]
