"""Catch-up: finds the log entries, the memberships and the notices that this node missed."""
