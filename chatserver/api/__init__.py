"""Everything that callers can reach: the three doors, their requests and responses, the API reference."""
