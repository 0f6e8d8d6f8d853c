"""What frozen layers put out, looked for in a store first and then in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from torch import Tensor

from fairtest.store import Store
from fairtest.training.trunk_store import MAX_STORED_BYTES, Compute, Row, StoredStates

__all__ = ["Row", "TrunkCache", "Work"]

_ROWS_AT_ONCE = 256


class Work(Protocol):
    """Tells a person of a piece of work of so many rows (fairtest.experiments.progress)."""

    def __call__(
        self, label: str, total: int, unit: str = ..., *, minor: bool = ...
    ) -> contextlib.AbstractContextManager[Callable[..., None]]: ...


class TrunkCache:
    """Outputs of frozen layers by pretrained files, depth and token ids: float32 tensors [T, d] on the CPU.

    Rows that were named beforehand (`fill`) are in the store, if there is one. Of others `max_bytes` are kept in
    memory, and further ones are computed each time they are asked for.

    Args:
        store: where blocks of rows are kept; None: in memory only.
        max_stored_bytes: a set of rows that takes more is not stored.
        work: who is told while a block is computed.
    """

    def __init__(
        self,
        max_bytes: int = 2 << 30,
        *,
        store: Store | None = None,
        max_stored_bytes: int = MAX_STORED_BYTES,
        work: Work | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_stored_bytes = max_stored_bytes
        self.bytes = 0
        self._store = store
        self._work = work
        self._states: dict[tuple[str, int], dict[Row, Tensor]] = {}
        self._stored: dict[tuple[str, int], StoredStates] = {}

    def find(self, digest: str, depth: int, row: Row) -> Tensor | None:
        """The states of one row, if they are kept.

        Raises:
            StoreError: the store is damaged.
        """
        stored = self._stored.get((digest, depth))
        states = None if stored is None else stored.find(row)
        return self.rows(digest, depth).get(row) if states is None else states

    def rows(self, digest: str, depth: int) -> dict[Row, Tensor]:
        """What is in memory of one pretrained model below layer `depth`."""
        return self._states.setdefault((digest, depth), {})

    def keep(self, digest: str, depth: int, row: Row, states: Tensor) -> None:
        """Keeps one row in memory, if there is room."""
        size = states.numel() * states.element_size()
        if self.bytes + size <= self.max_bytes:
            self.rows(digest, depth)[row] = states
            self.bytes += size

    def fill(self, digest: str, depth: int, width: int, rows: Iterable[Row], compute: Compute) -> None:
        """Has the store hold these rows, computing those that it lacks, where they are worth it and fit.

        Raises:
            StoreError: the store is damaged or cannot be written.
        """
        if self._store is None:
            return
        place = (digest, depth)
        if place not in self._stored:
            self._stored[place] = StoredStates(self._store, digest, depth, width, self.max_stored_bytes)
        stored = self._stored[place]
        missing = stored.missing(rows)
        if not stored.fits(missing):
            return
        with self._told(len(missing)) as advance:
            done = 0

            def on_rows(more: int) -> None:
                nonlocal done
                done += more
                advance(done=done)

            def computed(some: Sequence[Row]) -> dict[Row, Tensor]:
                found: dict[Row, Tensor] = {}
                for start in range(0, len(some), _ROWS_AT_ONCE):
                    found.update(compute(some[start : start + _ROWS_AT_ONCE]))
                    advance(done=done + len(found))
                return found

            stored.fill(missing, computed, on_rows)

    def _told(self, rows: int) -> contextlib.AbstractContextManager[Callable[..., None]]:
        if self._work is None:
            return contextlib.nullcontext(_unseen)
        return self._work("compute frozen layers", rows, "text", minor=True)


def _unseen(*, done: int) -> None:
    del done
