"""The Socket.IO door, for browsers and phones."""
