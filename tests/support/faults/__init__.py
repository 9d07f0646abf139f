"""The table of faults: every write, under every failure of the database and of its caller.

`stage.py` has the servers, and the people of a cell; `view.py` is a client that draws conclusions from events
alone. An operation is a row in `operations.py`, a failure is a column in `failures.py`. `table.py` runs cells and
says what must hold. `./scripts/faults` runs the whole table, `tests/faults/test_table.py` a part of it.
"""
