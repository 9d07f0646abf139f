"""`chatserver demo`: simulated people who chat on a development server."""
