"""Which items are not independent of each other because they share a text."""

from __future__ import annotations

from collections.abc import Sequence


def first_linked(texts: Sequence[Sequence[str]]) -> list[int]:
    """For each item, given by its texts, the index of the first item that it is connected to by shared texts."""
    parent = list(range(len(texts)))

    def first(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    seen: dict[str, int] = {}
    for index, of_item in enumerate(texts):
        for text in of_item:
            left, right = first(seen.setdefault(text, index)), first(index)
            parent[max(left, right)] = min(left, right)
    return [first(index) for index in range(len(texts))]
