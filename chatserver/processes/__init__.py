"""One module for each kind of process (node, relay, workers), and the parts that they share."""
