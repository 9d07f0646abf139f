"""The door for the Master Service, which proxies its users' requests: REST."""
