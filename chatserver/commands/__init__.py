"""The commands other than `serve`: most of them use a running server."""
