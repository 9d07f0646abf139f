"""`chatserver load`: many users on a running server, and a check of every delivery."""
