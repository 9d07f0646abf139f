"""A Python client of a running server, for the commands that act as users or as the Master Service."""
