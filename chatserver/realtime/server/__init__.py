"""The Socket.IO server: packets, namespaces, clients, and the fast path past them."""
