"""Blocks make ranges of numbers searchable: an index finds the ranges that contain a number, however many there are.

A block has 2^k numbers and begins at a multiple of 2^k. A range consists of few blocks, and a number is in one block of
each size. So the ranges that contain a number are those that have one of its LARGEST + 1 blocks, each of them once.
"""

from __future__ import annotations

LARGEST = 32
"""The k of the largest block, which contains every offset of a conversation."""


def blocks(first: int, last: int) -> list[int]:
    """Returns the fewest blocks of which the range consists. `first` is at least 1."""
    found: list[int] = []
    while first <= last:
        k = min((first & -first).bit_length(), (last - first + 1).bit_length()) - 1
        found.append(_block(first, k))
        first += 1 << k
    return found


def blocks_with(number: int) -> list[int]:
    """Returns the block of each size that contains the number."""
    return [_block(number, k) for k in range(LARGEST + 1)]


def _block(number: int, k: int) -> int:
    # The middle of the block, times two, which is that of no other block.
    return (((number >> k) << 1) + 1) << k
