"""The door for the Master Service itself: users, with the shared secret alone."""
