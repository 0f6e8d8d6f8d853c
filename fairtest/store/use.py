"""Which entries living processes have read, so that a clean-up in another process takes none of those.

A process that uses a store holds a lease: a locked file as old as its first use of that store. The system lets go of it
when the process ends, however it ends. Reading an entry renews the time of its entry.json, so one that is younger than
the oldest lease may be in use. Leases are taken, times renewed and entries removed under one short lock: none of them
falls between another's look and act.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

ENTRY_FILE = "entry.json"
_SHORT = "use.lock"
_LEASE = "process-*.lease"
_POLL_SECONDS = 0.005


@dataclass
class _Lease:
    lock: FileLock
    renewed: set[Path] = field(default_factory=set)


# By process too: a child that was forked has a life of its own.
_leases: dict[tuple[int, str], _Lease] = {}


@contextlib.contextmanager
def short_lock(root: Path) -> Iterator[None]:
    """Held for a moment by whoever renews or removes."""
    with FileLock(root / "locks" / _SHORT, poll_interval=_POLL_SECONDS):
        yield


def renew(root: Path, entry: Path) -> None:
    """Marks an entry as in use by this process for as long as that lives. An entry that is gone stays so."""
    lease = _lease(root)
    if entry in lease.renewed:
        return
    # A store of somebody else may be read and not be marked.
    with short_lock(root), contextlib.suppress(OSError):
        os.utime(entry / ENTRY_FILE)
        lease.renewed.add(entry)


def forget(root: Path, entry: Path) -> None:
    """An entry that is not there is marked when it has been made; what this process makes from here on is in use."""
    _lease(root).renewed.discard(entry)


def oldest_lease(root: Path) -> int | None:
    """Since when (ns) the process that has used this store longest does so; None where none uses it.

    Removes the leases of processes that have ended. To be called under the short lock.
    """
    began: list[int] = []
    for path in (root / "locks").glob(_LEASE):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with contextlib.suppress(OSError):
                began.append(path.stat().st_mtime_ns)
        else:
            path.unlink(missing_ok=True)
            lock.release()
    return min(began, default=None)


def used_at(entry: Path) -> int:
    """When (ns) an entry was last read by a process for the first time, or made.

    Raises:
        OSError: it is gone.
    """
    try:
        return (entry / ENTRY_FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return entry.stat().st_mtime_ns


def _lease(root: Path) -> _Lease:
    place = (os.getpid(), str(root.absolute()))
    if place not in _leases:
        with short_lock(root):
            lock = FileLock(root / "locks" / _LEASE.replace("*", uuid.uuid4().hex))
            lock.acquire()
            os.utime(lock.lock_file)
        _leases[place] = _Lease(lock)
    return _leases[place]
