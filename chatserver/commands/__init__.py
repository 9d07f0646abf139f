"""The commands that use a running server, a database or the webhooks; `serve` is not one of them."""
