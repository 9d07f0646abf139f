"""A self-hosted real-time chat server: Socket.IO for clients, REST for the services beside it."""

__version__ = "0.1.0"
