"""The rooms of a node: their members, and the order in which each room's log is applied."""
