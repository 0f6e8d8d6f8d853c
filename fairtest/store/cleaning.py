"""Removes from a store what has not been used for long, and what killed processes left in it.

Nothing that a living process reads or makes is taken (fairtest.store.use), and an entry goes whole: it is renamed out
of the way in one step and then deleted.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fairtest.errors import StoreError
from fairtest.store import use
from fairtest.store.listing import Listed, listed, size_of
from fairtest.store.store import lock_file

_REMOVED = "removed-"
# A file that is written in one go is a leftover when it is older than this.
_HASTY_SECONDS = 3600.0
# What takes minutes to make again, not hours, goes before all else.
_MADE_AGAIN = ("trunk",)


@dataclass(frozen=True)
class Leftover:
    """What a process that was killed left: an entry in the making, or a file that was never finished."""

    path: Path
    size: int


@dataclass(frozen=True)
class Cleaned:
    """What was removed (with `dry_run`: would be), and what was asked for and left because it is in use."""

    removed: tuple[Listed, ...]
    in_use: tuple[Listed, ...]
    leftovers: tuple[Leftover, ...]
    kept: int
    kept_bytes: int

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(entry.size for entry in self.removed) + sum(left.size for left in self.leftovers)


def clean(
    root: Path, *, older_than: float | None = None, keep_bytes: int | None = None, dry_run: bool = False
) -> Cleaned:
    """Removes entries that nobody has read for `older_than` seconds, then outputs of frozen layers and after them what
    was read longest ago until at most `keep_bytes` are left, and all leftovers. With neither limit, leftovers alone.

    Raises:
        StoreError: another clean-up is at work, or the disk refuses.
    """
    with _alone(root), _told(root):
        entries = sorted(listed(root), key=lambda entry: (entry.kind not in _MADE_AGAIN, entry.used_ns))
        total = sum(entry.size for entry in entries)
        latest = None if older_than is None else time.time() - older_than
        removed: list[Listed] = []
        in_use: list[Listed] = []
        for entry in entries:
            old = latest is not None and entry.used_at <= latest
            if not old and (keep_bytes is None or total <= keep_bytes):
                continue
            if take(root, entry, dry_run=dry_run):
                removed.append(entry)
                total -= entry.size
            else:
                in_use.append(entry)
        unfinished = tuple(_remove_leftovers(root, dry_run=dry_run))
        with use.short_lock(root):
            use.oldest_lease(root)
        return Cleaned(tuple(removed), tuple(in_use), unfinished, len(entries) - len(removed), total)


def remove(root: Path, entries: Sequence[Listed]) -> tuple[list[Listed], list[Listed]]:
    """(removed, in use) of these entries.

    Raises:
        StoreError: another clean-up is at work, or the disk refuses.
    """
    with _alone(root), _told(root):
        done = [(entry, take(root, entry)) for entry in entries]
    return [entry for entry, gone in done if gone], [entry for entry, gone in done if not gone]


def take(root: Path, entry: Listed, *, dry_run: bool = False) -> bool:
    """Removes one entry unless it is in use or was read since it was listed; whether it is gone."""
    away = root / "work" / f"{_REMOVED}{uuid.uuid4().hex}"
    with use.short_lock(root), _held(lock_file(root, entry.kind, entry.digest)) as free:
        if not free or _in_use(root, entry):
            return False
        if dry_run:
            return True
        with contextlib.suppress(FileNotFoundError):
            entry.path.replace(away)
    if away.exists():
        shutil.rmtree(away)
    return True


def leftovers(root: Path) -> list[Leftover]:
    """What killed processes left; nothing is removed."""
    return list(_remove_leftovers(root, dry_run=True))


def _in_use(root: Path, entry: Listed) -> bool:
    """To be called under the short lock."""
    since = use.oldest_lease(root)
    try:
        read = use.used_at(entry.path)
    except OSError:
        return False
    return read != entry.used_ns or (since is not None and read >= since)


def _remove_leftovers(root: Path, *, dry_run: bool) -> Iterator[Leftover]:
    now = time.time()
    work = root / "work"
    # Listed before their locks are tried: whoever makes one of these holds its lock since before it was there.
    for path in sorted(work.iterdir()) if work.is_dir() else ():
        with contextlib.ExitStack() as locks:
            if path.name.startswith(_REMOVED):
                free = True  # of a clean-up, and there is only one at a time
            elif path.is_dir():
                stem = path.name.rpartition("-")[0]
                found = (root / "locks").glob(f"{stem}*.lock")
                free = all(locks.enter_context(_held(lock)) for lock in found)
            else:
                free = _hasty(path, now)
            if free and path.exists():
                yield _removed(path, dry_run=dry_run)
    for path in sorted((root / "report").glob(".*.partial")):
        if _hasty(path, now):
            yield _removed(path, dry_run=dry_run)


def _removed(path: Path, *, dry_run: bool) -> Leftover:
    left = Leftover(path, size_of(path))
    if not dry_run and path.is_dir():
        shutil.rmtree(path)
    elif not dry_run:
        path.unlink(missing_ok=True)
    return left


def _hasty(path: Path, now: float) -> bool:
    try:
        return now - path.lstat().st_mtime > _HASTY_SECONDS
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Holds the lock of an entry, if nobody else does. The file stays: another may be waiting at it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    (root / "locks").mkdir(parents=True, exist_ok=True)
    with _held(root / "locks" / "cleaning.lock") as free:
        if not free:
            raise StoreError(
                "another clean-up of this store is at work", where=str(root), fix="wait until it has ended"
            )
        yield


@contextlib.contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store cannot be cleaned: {error.strerror or error}",
            where=str(error.filename or root),
            fix="run it as the user who owns the store",
        ) from error
