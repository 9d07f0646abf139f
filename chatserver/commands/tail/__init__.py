"""`chatserver tail`: follows a conversation as one of its participants."""
