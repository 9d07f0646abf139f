"""Where events go. A new kind of sink is one file here: implement `sink.Sink`."""
