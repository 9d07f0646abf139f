"""The API reference: OpenAPI for HTTP and webhooks, AsyncAPI for the sockets, and HTML pages of both.

It is generated from the rows and schemas that the doors run on.
"""
