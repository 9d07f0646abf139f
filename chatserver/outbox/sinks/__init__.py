"""Sinks: the targets of events. To add a kind of sink, implement `sink.Sink` in a file here, and register its URL scheme."""
