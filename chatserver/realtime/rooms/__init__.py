"""The rooms of a node: their members, and the sequencer that applies each room's log in order."""
