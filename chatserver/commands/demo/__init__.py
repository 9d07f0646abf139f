"""`chatserver demo`: people who talk on a development server, for whoever looks at a chat of their own."""
