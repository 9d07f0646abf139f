"""A queue in which keys take turns: many items of one key do not delay those of another."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items by key. `take` goes round the keys; the items of a key keep their order."""

    def __init__(self) -> None:
        self._of_key: dict[str, deque[T]] = {}
        """The items of each key that has any. The key whose turn is next comes first."""

    def __len__(self) -> int:
        return sum(map(len, self._of_key.values()))

    def __bool__(self) -> bool:
        return bool(self._of_key)

    def put(self, key: str, item: T) -> None:
        items = self._of_key.get(key)
        if items is None:
            items = self._of_key[key] = deque()
        items.append(item)

    def take(self) -> T:
        """Returns the first item of the next key. The queue must not be empty."""
        key = next(iter(self._of_key))
        items = self._of_key.pop(key)
        item = items.popleft()
        if items:
            self._of_key[key] = items
        return item
