"""The REST door. The Master Service proxies its users' requests to it."""
