"""The clients of several nodes, over a Redis: whoever emits need not know who is connected where."""

from .clients import SpreadClients

__all__ = ["SpreadClients"]
