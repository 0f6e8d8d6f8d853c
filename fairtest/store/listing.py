"""What lies in a store, looked at without using it: no entry is marked as read, and nothing is made or locked."""

from __future__ import annotations

import calendar
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairtest.store.use import ENTRY_FILE, used_at

_WHEN = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Listed:
    """One entry: what it takes on disk, when (seconds since 1970) it was made and last read.

    `key` and `result` are empty where entry.json cannot be read. `used_ns` is the last reading to the nanosecond.
    """

    kind: str
    digest: str
    path: Path
    size: int
    made_at: float
    used_ns: int
    key: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def used_at(self) -> float:
        """When it was last read by a process for the first time, or made."""
        return self.used_ns / 1e9

    @property
    def name(self) -> str:
        """Kind and the beginning of the digest."""
        return f"{self.kind}/{self.digest[:12]}"


def listed(root: Path) -> list[Listed]:
    """All entries by kind and digest; [] where there is no store."""
    found = [_looked_at(path) for path in entry_directories(root)]
    return [entry for entry in found if entry is not None]


def entry_directories(root: Path) -> Iterator[Path]:
    """The directories of all entries, by kind and digest."""
    for kind in _directories(root / "entries"):
        yield from _directories(kind)


def size_of(path: Path) -> int:
    """Bytes of the files in a directory, or of a file; what vanishes meanwhile counts nothing."""
    if not path.is_dir():
        return _bytes(path)
    return sum(_bytes(Path(parent) / name) for parent, _, names in os.walk(path) for name in names)


def _directories(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir())
    except FileNotFoundError:
        return []


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _looked_at(path: Path) -> Listed | None:
    try:
        used = used_at(path)
    except OSError:
        return None  # gone
    try:
        document = json.loads((path / ENTRY_FILE).read_text(encoding="utf-8"))
        key, result, made = dict(document["key"]), dict(document["result"]), _seconds(document["made_at"])
    except (OSError, ValueError, KeyError, TypeError):
        key, result, made = {}, {}, used / 1e9
    return Listed(path.parent.name, path.name, path, size_of(path), made, used, key, result)


def _seconds(when: str) -> float:
    return float(calendar.timegm(time.strptime(when, _WHEN)))
