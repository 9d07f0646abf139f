"""Read state: the messages that each participant has read, and unread counts."""
