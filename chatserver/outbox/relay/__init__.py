"""The relay: partition leases, a queue per ordering key, retries."""
