"""`chatserver load`: many users on a running server, and what becomes of what they say."""
