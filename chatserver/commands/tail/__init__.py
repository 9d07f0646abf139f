"""`chatserver tail`: a conversation, followed as one of its users."""
