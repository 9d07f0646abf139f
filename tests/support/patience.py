"""How long the tests wait: for what must happen, and for what a promise says happens in time."""

from __future__ import annotations

import os
from pathlib import Path

PATIENCE_S = 60.0
"""The wait for what must happen. Nothing is measured with it: a slow machine only waits longer."""


def slowness() -> float:
    """How many times longer than on a quiet machine things may take now: at least 1.

    A promise of time ("answers within 5 s") is asserted times this. It is the number of processes that
    want a CPU for each CPU that there is, now or over the last minute.
    """
    last_minute, _, _, tasks, _ = Path("/proc/loadavg").read_text().split()
    running = int(tasks.split("/")[0])
    return max(1.0, float(last_minute) / CPUS, running / CPUS)


CPUS = os.cpu_count() or 1
