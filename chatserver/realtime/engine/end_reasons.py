"""Reasons for the end of a session, besides those of engineio. Ended sessions are counted by reason (see
EngineServer.closings)."""

TOO_SLOW = "too slow"
MALFORMED = "malformed"
DRAIN = "drain"
