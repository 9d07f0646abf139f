"""What callers are told: the shape of every answer, event and webhook, written down once.

Nothing is checked by these schemas while the server runs. The documents of the API are made of them,
and the tests compare with them whatever a server of theirs says.
"""
