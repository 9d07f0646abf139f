"""What an operator sees and does: dead letters, replay, the backlog."""
