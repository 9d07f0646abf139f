"""Some cells of the table of faults. `./scripts/faults` runs the whole table."""

from __future__ import annotations

import os
import random
from itertools import groupby
from pathlib import Path

from chatserver.api.operations.table import FOR_USERS, INTERNAL
from tests.support.faults.failures import FAILURES, Failure
from tests.support.faults.operations import OPERATIONS, UNTRIED
from tests.support.faults.stage import stage
from tests.support.faults.table import Cell, run

SEED = int(os.environ.get("FAULTS_SEED", "1"))
"""Always the same, so that a change does not fail for a cell that it has not touched."""
ROWS = 5


def some_failures(rng: random.Random) -> list[Failure]:
    """Returns a failure of each kind of command, and two others."""
    kinds = [list(kind) for _, kind in groupby(FAILURES, lambda failure: failure.command)]
    *commands, others = kinds
    return [*(rng.choice(kind) for kind in commands), *rng.sample(others, 2)]


def test_each_operation_that_writes_has_a_row() -> None:
    writes = {
        operation.name
        for operation in (*FOR_USERS, *INTERNAL)
        if operation.route is not None and operation.route.method != "GET"
    }
    assert {row.of for row in OPERATIONS} - {None} == writes - UNTRIED.keys()


async def test_writes_survive_every_failure(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    cells: list[Cell] = []
    async with stage(tmp_path) as servers:
        for failure in some_failures(rng):
            cells += await run(servers, rng.sample(OPERATIONS, ROWS), failure, rng)
    assert [f"{cell.name}: {cell.fault}" for cell in cells if cell.fault] == [], (
        f"FAULTS_SEED={SEED}"
    )
    assert {cell.outcome for cell in cells} > {"acknowledged", "UNAVAILABLE"}
