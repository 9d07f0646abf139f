"""A ReadSet behaves like a set of numbers, but needs little space."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chatserver.chat.read_state.ranges import Range, ReadSet

LAST = 40
ranges = st.tuples(st.integers(1, LAST), st.integers(1, LAST)).map(
    lambda pair: (min(pair), max(pair))
)
histories = st.lists(ranges, max_size=25)


def made_of(added: list[Range]) -> tuple[ReadSet, set[int]]:
    read, model = ReadSet(), set[int]()
    for first, last in added:
        read = read.adding(first, last)
        model |= set(range(first, last + 1))
    return read, model


def numbers(several: list[Range]) -> list[int]:
    return [seq for first, last in several for seq in range(first, last + 1)]


@given(histories)
def test_a_set_contains_what_was_added_and_nothing_else(added: list[Range]) -> None:
    read, model = made_of(added)
    assert {seq for seq in range(1, LAST + 2) if seq in read} == model


@given(histories)
def test_a_set_has_as_few_ranges_as_possible(added: list[Range]) -> None:
    read, _ = made_of(added)
    edges = [(0, read.mark), *read.ahead]
    assert all(first <= last for first, last in edges)
    # Ranges neither overlap nor touch: at least one number lies between neighbours.
    assert all(former[1] + 1 < later[0] for former, later in pairwise(edges))


@given(histories, st.permutations(range(25)))
def test_the_order_of_adding_does_not_matter(added: list[Range], order: list[int]) -> None:
    shuffled = [added[place] for place in order if place < len(added)]
    assert made_of(shuffled)[0] == made_of(added)[0]


@given(histories, ranges)
def test_adding_again_changes_nothing(added: list[Range], span: Range) -> None:
    once = made_of(added)[0].adding(*span)
    assert once.adding(*span) == once


@given(histories, st.integers(0, LAST + 5))
def test_the_missing_ranges_are_the_rest(added: list[Range], upto: int) -> None:
    read, model = made_of(added)
    gaps = read.missing(upto)
    assert all(first <= last for first, last in gaps)
    assert numbers(gaps) == sorted(set(range(1, upto + 1)) - model)


@given(histories, st.integers(1, LAST))
def test_the_gaps_beside_a_number_are_the_nearest_ones(added: list[Range], seq: int) -> None:
    read, model = made_of(added)
    gaps = read.gaps_beside(seq)
    if seq not in model and seq > read.mark:
        assert gaps == []
        return
    all_gaps = [gap for gap in read.missing(LAST) if gap[1] < LAST or LAST in model]
    before = [gap for gap in all_gaps if gap[1] < seq][-1:]
    after = [gap for gap in all_gaps if gap[0] > seq][:1]
    assert gaps == before + after
    # Filling a gap joins the ranges on both sides.
    filled = read
    for gap in gaps:
        filled = filled.adding(*gap)
    assert len(filled.ahead) == len(read.ahead) - len(gaps)


def test_a_mark_moves_over_what_was_read_ahead_of_it() -> None:
    read = ReadSet().adding(3, 3).adding(5, 6).adding(9, 9)
    assert read == ReadSet(0, ((3, 3), (5, 6), (9, 9)))
    assert read.adding(4, 4) == ReadSet(0, ((3, 6), (9, 9)))
    assert read.adding(1, 2) == ReadSet(3, ((5, 6), (9, 9)))
    assert read.adding(1, 4) == ReadSet(6, ((9, 9),))
    assert read.adding(1, 8) == ReadSet(9)
    assert read.adding(2, 100) == ReadSet(0, ((2, 100),))
    assert read.missing(9) == [(1, 2), (4, 4), (7, 8)]
    assert read.missing(5) == [(1, 2), (4, 4)]


@given(histories, st.integers(0, 5))
def test_a_set_is_bounded_by_adding_its_first_gaps(added: list[Range], most: int) -> None:
    read, model = made_of(added)
    bounded = read.at_most(most)
    assert len(bounded.ahead) == min(most, len(read.ahead))
    assert bounded.ahead == read.ahead[len(read.ahead) - len(bounded.ahead) :]
    gone = {seq for seq in range(1, LAST + 1) if seq in bounded} - model
    assert all(seq < first for seq in gone for first, _ in bounded.ahead)
    assert bounded.mark >= read.mark
