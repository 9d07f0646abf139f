"""A client of a running server, in Python: for the commands that talk to one as its users do."""
