"""Sets of sequence numbers: a cumulative mark, and the few ranges that were read ahead of it.

The idea is that of TCP's selective acknowledgement (RFC 2018). Everything up to the mark is in the set.
Beyond the mark there are sorted ranges, which neither overlap nor touch.
"""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[int, int]
"""The first and the last number, both included."""


@dataclass(frozen=True, slots=True)
class ReadSet:
    mark: int = 0
    ahead: tuple[Range, ...] = ()

    def __contains__(self, seq: int) -> bool:
        return seq <= self.mark or any(first <= seq <= last for first, last in self.ahead)

    def adding(self, first: int, last: int) -> ReadSet:
        """Returns the set with `first`..`last` added. Ranges that overlap or touch become one."""
        kept: list[Range] = []
        for span in self.ahead:
            if span[1] < first - 1 or span[0] > last + 1:
                kept.append(span)
            else:
                first, last = min(first, span[0]), max(last, span[1])
        mark = self.mark
        if first <= mark + 1:
            mark = max(mark, last)
            kept = [span for span in kept if span[1] > mark]
            # The mark absorbs ranges that it now touches.
            while kept and kept[0][0] <= mark + 1:
                mark = kept.pop(0)[1]
            return ReadSet(mark, tuple(kept))
        return ReadSet(mark, tuple(sorted([*kept, (first, last)])))

    def at_most(self, ranges: int) -> ReadSet:
        """Returns the set with at most so many ranges beyond the mark. The mark passes over the first gaps."""
        surplus = len(self.ahead) - ranges
        return self if surplus <= 0 else ReadSet(self.ahead[surplus - 1][1], self.ahead[surplus:])

    def missing(self, upto: int) -> list[Range]:
        """Returns the ranges up to and including `upto` that are not in the set."""
        gaps: list[Range] = []
        start = self.mark + 1
        for first, last in self.ahead:
            if first > upto:
                break
            gaps.append((start, first - 1))
            start = last + 1
        if start <= upto:
            gaps.append((start, upto))
        return gaps

    def gaps_beside(self, seq: int) -> list[Range]:
        """Returns the gaps directly before and directly after the range that contains `seq`."""
        edges = [(0, self.mark), *self.ahead]
        at = next((i for i, (first, last) in enumerate(edges) if first <= seq <= last), None)
        if at is None:
            return []
        return [
            (edges[i][1] + 1, edges[i + 1][0] - 1) for i in (at - 1, at) if 0 <= i < len(edges) - 1
        ]
