"""How batches go: for operators, and in the traces of those who have a share in them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...metrics import Families, Histograms
from .tail import Op

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Batches:
    def __init__(self) -> None:
        self._sizes = Histograms(SIZES)
        self._took = Histograms()

    @contextmanager
    def batch(self, kind: str, ops: Sequence[Op]) -> Iterator[None]:
        """While these are committed together. `kind`: sends, changes or acts."""
        began = time.perf_counter()
        self._sizes[kind].observe(len(ops))
        trails = [op.trail for op in ops if op.trail is not None]
        for trail in trails:
            trail.commit(trails, len(ops))
        try:
            yield
        finally:
            self._took[kind].observe(time.perf_counter() - began)
            for trail in trails:
                trail.done()

    def watch(self, metrics: Families) -> None:
        metrics.histograms(
            "chat_log_batch_changes",
            "Changes committed together, by what they are: sends, changes or acts.",
            "kind",
            self._sizes,
        )
        metrics.histograms(
            "chat_log_commit_seconds",
            "How long a batch took to commit and to announce, by what is in it.",
            "kind",
            self._took,
        )
