"""The shapes of all responses, server events and webhooks, declared once.

The API reference is generated from these schemas. Tests compare everything that a server sends with them;
a running server does not validate its output.
"""
