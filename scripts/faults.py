"""`./scripts/faults`: runs the table of faults, or a part of it."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import documented
from tests.support.faults.failures import FAILURES, Failure
from tests.support.faults.operations import OPERATIONS, Operation
from tests.support.faults.stage import stage
from tests.support.faults.table import ACKNOWLEDGED, Cell, run

# On a terminal the progress line overwrites itself.
CLEAR, END = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument(
        "--operation",
        action="append",
        metavar="TEXT",
        help="only rows with this text in their name",
    )
    parser.add_argument(
        "--failure",
        action="append",
        metavar="TEXT",
        help="only columns with this text in their name",
    )
    parser.add_argument("--seed", type=int, help="of the random choices; printed by each run")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="for the logs of the servers; by default they are removed",
    )
    parser.add_argument("--list", action="store_true", help="list rows and columns")
    chosen = parser.parse_args()
    if chosen.keep and chosen.keep.exists():
        parser.error(f"{chosen.keep} exists")
    operations = [row for row in OPERATIONS if _matches(row.name, chosen.operation)]
    failures = [row for row in FAILURES if _matches(row.name, chosen.failure)]
    if chosen.list:
        print("Operations:", *[f"  {row.name}" for row in operations], sep="\n")
        print("Failures:", *[f"  {row.name}" for row in failures], sep="\n")
        return 0
    if not operations or not failures:
        parser.error("no cell has such a name")
    seed = random.randrange(10**6) if chosen.seed is None else chosen.seed
    print(f"seed {seed}: {len(operations) * len(failures)} cells", flush=True)
    with TemporaryDirectory(prefix="chatserver-faults-") as folder:
        cells = asyncio.run(_run(chosen.keep or Path(folder), operations, failures, seed))
    print(_table(operations, failures, cells))
    for fault in documented.faults:
        print(f"not as documented: {fault}")
    failed = sum(bool(cell.fault) for cell in cells)
    print(f"{failed} of {len(cells)} cells fail (seed {seed})")
    return bool(failed or documented.faults)


def _matches(name: str, wanted: list[str] | None) -> bool:
    return wanted is None or any(text in name for text in wanted)


async def _run(
    folder: Path, operations: Sequence[Operation], failures: Sequence[Failure], seed: int
) -> list[Cell]:
    rng = random.Random(seed)
    began = time.monotonic()
    cells: list[Cell] = []
    async with stage(folder) as servers:
        for number, failure in enumerate(failures, 1):
            new = await run(servers, operations, failure, rng)
            cells += new
            for cell in new:
                if cell.fault:
                    print(f"{CLEAR}{cell.name}: {cell.fault}", flush=True)
            progress = f"{number}/{len(failures)} failures, {time.monotonic() - began:.0f} s"
            print(f"{CLEAR}{progress}; {failure.name}", end=END, file=sys.stderr, flush=True)
        print(CLEAR, end="", file=sys.stderr)
    return cells


def _table(operations: Sequence[Operation], failures: Sequence[Failure], cells: list[Cell]) -> str:
    marks = {(cell.operation.name, cell.failure.name): _mark(cell) for cell in cells}
    width = max(len(failure.name) for failure in failures)
    rows = [
        f"{failure.name:{width}}"
        + "".join(f"{marks[operation.name, failure.name]:>3}" for operation in operations)
        for failure in failures
    ]
    numbers = range(1, len(operations) + 1)
    return "\n".join(
        [
            *[f"{n:>2} {operation.name}" for n, operation in zip(numbers, operations, strict=True)],
            " " * width + "".join(f"{n:>3}" for n in numbers),
            *rows,
            ". acknowledged all the same   o refused   x the caller had gone   F the cell fails",
        ]
    )


def _mark(cell: Cell) -> str:
    if cell.fault:
        return "F"
    return {ACKNOWLEDGED: ".", "gone": "x"}.get(cell.outcome, "o")


if __name__ == "__main__":  # the servers are forks, which import this module
    sys.exit(main())
