"""The documents of the API, made of the rows and schemas that the doors run on: OpenAPI for HTTP and
webhooks, AsyncAPI for the sockets, and pages of both."""
