"""What each participant has read, and how much is unread."""
