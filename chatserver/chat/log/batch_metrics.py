"""Measures the size and duration of batches, for metrics and for the traces of their changes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...observability.metrics import Families, Histogram, Histograms
from ...observability.spans import ChangeTrace
from .tail import Op

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class MeasuredBatch:
    """A batch that is being committed."""

    # A generator as the context manager would cost 1.4 µs more, and a lone send is a batch.
    __slots__ = ("_began", "_size", "_took", "_traces")

    def __init__(self, took: Histogram, traces: Sequence[ChangeTrace], size: int) -> None:
        self._took = took
        self._traces = traces
        self._size = size

    def __enter__(self) -> None:
        self._began = time.perf_counter()
        for trace in self._traces:
            trace.commit(self._traces, self._size)

    def __exit__(self, *_: object) -> None:
        self._took.observe(time.perf_counter() - self._began)
        for trace in self._traces:
            trace.done()


class BatchMetrics:
    """The metrics of all batches of this process."""

    def __init__(self) -> None:
        self._sizes = Histograms(SIZES)
        self._took = Histograms()

    def batch(self, kind: str, ops: Sequence[Op]) -> MeasuredBatch:
        """Measure the `with` block that commits `ops` together.

        `kind`: `sends`, `changes` (of messages) or `acts` (on a conversation or its members).
        """
        self._sizes[kind].observe(len(ops))
        return MeasuredBatch(
            self._took[kind], [op.trace for op in ops if op.trace is not None], len(ops)
        )

    def watch(self, metrics: Families) -> None:
        metrics.histograms(
            "chat_log_batch_changes",
            "Changes per batch, by kind: sends, changes (of messages) or acts (on a conversation).",
            "kind",
            self._sizes,
        )
        metrics.histograms(
            "chat_log_commit_seconds",
            "Time to commit and announce a batch, by kind.",
            "kind",
            self._took,
        )
