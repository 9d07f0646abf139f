"""One module for each kind of process (node, relay, workers), and what they are built from."""
