"""Outputs of frozen layers kept in a store, in blocks of rows that any process finds row by row.

A block is an entry of kind "trunk": one safetensors file with the digests of its rows, where each row ends, and the
states of all rows one after the other. It is read as a memory map: the system keeps of it what is used and has room.
The states of a text say nearly as much as the text, so a store with such entries is as private as the corpus.
"""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from fairtest.store import Entry, Store
from fairtest.training.models import save_state

KIND = "trunk"
# Raised when a change of the library changes what the same frozen layers put out for the same row.
TRUNK_VERSION = 1
MAX_STORED_BYTES = 4 << 30
_FILE = "states.safetensors"
_BLOCK_BYTES = 64 << 20
# Less than this is computed about as fast as it is looked up.
_LEAST_BYTES = 1 << 20
_DIGEST_BYTES = 16

Row = tuple[int, ...]
Compute = Callable[[Sequence[Row]], Mapping[Row, Tensor]]


@dataclass(eq=False)
class _Block:
    """A block that was seen in the store; `states` [tokens, d] once a row of it was asked for."""

    entry: Entry
    states: Tensor | None = None


class StoredStates:
    """What a store holds of one model below one layer: float32 states [T, d] by row of token ids.

    Of a set of rows that takes more than `max_bytes`, or half of the free disk, nothing is stored.
    """

    def __init__(self, store: Store, digest: str, depth: int, width: int, max_bytes: int = MAX_STORED_BYTES) -> None:
        self.max_bytes = max_bytes
        self._store = store
        self._of = {"version": TRUNK_VERSION, "model": digest, "depth": depth, "dtype": "float32"}
        self._token_bytes = 4 * width
        self._blocks: dict[str, _Block] = {}
        self._places: dict[bytes, tuple[_Block, int]] = {}
        self._look()

    def find(self, row: Row) -> Tensor | None:
        """The states [T, d] of a row, or None.

        Raises:
            StoreError: the block it is in is damaged.
        """
        while True:
            block, start = self._places.get(_digest(row), (None, 0))
            if block is None:
                return None
            if block.states is None and not self._open(block):
                continue  # a clean-up took it; another block may hold the row too
            if block.states is not None:
                return block.states[start : start + len(row)]

    def missing(self, rows: Iterable[Row]) -> list[Row]:
        """The distinct rows that no block holds, shortest first; looks at what other processes have stored."""
        self._look()
        return sorted({row for row in rows if _digest(row) not in self._places}, key=lambda row: (len(row), row))

    def fits(self, rows: Sequence[Row]) -> bool:
        """Whether rows are worth storing and there is room for them."""
        size = self._token_bytes * sum(map(len, rows))
        return _LEAST_BYTES <= size <= min(self.max_bytes, shutil.disk_usage(self._store.root).free // 2)

    def fill(self, rows: Sequence[Row], compute: Compute, on_rows: Callable[[int], object]) -> None:
        """Stores rows that are `missing`, block by block; one that another process makes is waited for and not made
        again. `on_rows` is called with how many more are there.
        """
        for some in self._cut(rows):
            key = {**self._of, "rows": hashlib.sha256(b"".join(map(_digest, some))).hexdigest()}

            def make(directory: Path, some: Sequence[Row] = some) -> dict[str, Any]:
                _write(compute(some), some, directory / _FILE)
                return {"rows": len(some), "tokens": sum(map(len, some))}

            self._add(self._store.obtain(KIND, key, make))
            on_rows(len(some))

    def _cut(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        start = size = 0
        for end, row in enumerate(rows):
            size += self._token_bytes * len(row)
            if size > _BLOCK_BYTES and end > start:
                yield rows[start:end]
                start, size = end, self._token_bytes * len(row)
        if rows:
            yield rows[start:]

    def _look(self) -> None:
        for entry in self._store.entries(KIND):
            known = entry.digest in self._blocks
            if not known and all(entry.key.get(name) == value for name, value in self._of.items()):
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        block = _Block(entry)
        try:
            with safe_open(entry.path / _FILE, framework="pt") as file:
                whole, begun, ends = (file.get_tensor(name) for name in ("rows", "begun", "ends"))
        except FileNotFoundError:
            return  # a clean-up took it
        self._blocks[entry.digest] = block
        starts = [0, *ends.tolist()]
        # What a row's states are but for the last token's is found too: scoring never reads the last token.
        for digests in (begun, whole):
            data = digests.numpy().tobytes()
            for index in range(len(digests)):
                place = data[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES]
                self._places[place] = (block, starts[index])

    def _open(self, block: _Block) -> bool:
        # Found again, so that it is marked as in use and its content is checked once.
        if self._store.find(KIND, block.entry.key) is None:
            self._places = {place: held for place, held in self._places.items() if held[0] is not block}
            del self._blocks[block.entry.digest]
            self._look()
            return False
        with torch.inference_mode(mode=False), safe_open(block.entry.file(_FILE), framework="pt") as file:
            block.states = file.get_tensor("states")
        return True


def _digest(row: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", row).tobytes(), digest_size=_DIGEST_BYTES).digest()


def _write(states: Mapping[Row, Tensor], rows: Sequence[Row], path: Path) -> None:
    with torch.inference_mode(mode=False):
        save_state(
            {
                "rows": _digests(rows),
                "begun": _digests([row[:-1] for row in rows]),
                "ends": torch.tensor([len(row) for row in rows]).cumsum(0),
                "states": torch.cat([states[row] for row in rows]),
            },
            path,
        )


def _digests(rows: Sequence[Sequence[int]]) -> Tensor:
    data = bytearray(b"".join(map(_digest, rows)))
    return torch.frombuffer(data, dtype=torch.uint8).reshape(len(rows), _DIGEST_BYTES)
