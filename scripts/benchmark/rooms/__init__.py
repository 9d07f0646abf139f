"""Servers that have nothing but rooms: what the transport costs by itself.

Each listens on WS_PORT. A client names its room in place of a token, and is told `connected`. What it
says with `message:send` the room gets as `message:new`, and it an acknowledgement; `typing:start` and
`typing:stop` the others get as `user:typing`. Nothing is checked, nothing stored.
"""
