"""The internal API: the Master Service calls it with the shared secret, not on behalf of a user."""
