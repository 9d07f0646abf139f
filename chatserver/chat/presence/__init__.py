"""Who is online: leases of nodes, transitions, announcements."""
