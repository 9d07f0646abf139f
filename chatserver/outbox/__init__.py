"""The way out: events for the Master Service, recorded with the change that they tell of."""
