"""Puts the chat server and a peer under the same load, in turns, on one machine. See docs/benchmarks.md."""
