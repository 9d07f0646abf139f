"""The Socket.IO server: packets, namespaces, clients, and a fast path that bypasses them."""
