"""Presence: the leases of nodes, the transitions of users, and their announcement."""
