"""Why the server ends a session, where the engine.io server has no word for it. Sessions that have ended
are counted by these (see EngineServer.closings)."""

TOO_SLOW = "too slow"
MALFORMED = "malformed"
DRAIN = "drain"
