"""The operator's side of the outbox: dead letters, replay, the backlog."""
