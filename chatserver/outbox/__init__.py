"""Events for the Master Service (webhooks). Each is stored together with the change that it describes."""
