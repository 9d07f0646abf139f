"""Servers that have only rooms, to measure the cost of the transport alone.

Each listens on WS_PORT. A client sends its room's name as the token, and receives `connected`. The room
receives a `message:send` as `message:new`, and the sender an acknowledgement. The other clients receive
`typing:start` and `typing:stop` as `user:typing`. Nothing is checked or stored.
"""
