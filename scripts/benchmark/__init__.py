"""The chat server and a peer under the same load, in turns, on one machine: see docs/benchmarks.md."""
