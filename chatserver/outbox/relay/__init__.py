"""Who sends what, when: leases of partitions, a queue per ordering key, retries."""
