"""Content-addressed entries on disk: made once, whole or not at all.

An entry is a directory named by the digest of its key. It is filled in a temporary directory beside the store's
entries and renamed into
place, so a reader sees a finished entry or none; a file lock makes concurrent processes that want the same entry wait
for the one that makes it.

Layout under the root:
    entries/<kind>/<digest>/entry.json   the key, the files with sizes and SHA-256, when it was made
    entries/<kind>/<digest>/...          the entry's own files (safetensors and JSON only)
    locks/  work/                        locks and leases (fairtest.store.use); entries in the making
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fairtest.digests import digest_of
from fairtest.errors import StoreError
from fairtest.store import use

SCHEMA = 1
ALLOWED_SUFFIXES = (".json", ".safetensors")


@dataclass(frozen=True)
class Entry:
    """A finished entry: its directory, the key it was made for, and what its maker returned."""

    kind: str
    digest: str
    path: Path
    key: Mapping[str, Any]
    result: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    def file(self, name: str) -> Path:
        """Path of one of the entry's files, its content checked against the digest taken when it was made.

        Raises:
            StoreError: the entry has no such file, or the file was changed.
        """
        path = self.path / name
        if name in self.files and path.is_file() and sha256_of(path) != self.files[name]["sha256"]:
            raise StoreError(
                f"store entry {self.kind}/{self.digest[:12]} is damaged: {name} is not what was written",
                where=str(self.path),
                fix="remove this directory: the entry will be made again",
            )
        if not path.is_file():
            raise StoreError(
                f"store entry {self.kind}/{self.digest[:12]} has no file {name!r}",
                where=str(self.path),
                fix="remove this directory: the entry will be made again",
            )
        return path


class Store:
    """Entries under one root directory, shared by tests, processes and machines that see the same disk.

    Raises:
        StoreError: the root cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            made_here = not self.root.exists()
            for name in ("entries", "locks", "work"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            if made_here:  # never in a directory that was there before: it may be a project
                (self.root / ".gitignore").write_text("*\n", encoding="utf-8")
            probe = self.root / "work" / uuid.uuid4().hex
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the store cannot be written: {error.strerror or error}",
                where=str(self.root),
                fix="choose a writable directory with the setting cache_dir, --fairtest-cache-dir "
                "or FAIRTEST_CACHE_DIR",
            ) from error

    def find(self, kind: str, key: Mapping[str, Any]) -> Entry | None:
        """The finished entry of this key, or None.

        Raises:
            StoreError: the entry is there but damaged.
        """
        return self._used(kind, digest_of(key))

    def obtain(self, kind: str, key: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]) -> Entry:
        """The entry of this key, made by `make(directory)` unless it is there.

        `make` writes its files into the directory it is given and returns plain data that is kept with the entry. If
        it raises (an
        interrupt too), nothing of it stays.

        Raises:
            StoreError: a damaged entry, a file type the store does not hold, or a disk error.
        """
        digest = digest_of(key)
        found = self._used(kind, digest)
        if found is not None:
            return found
        with self._lock(kind, digest):
            found = self._used(kind, digest)
            if found is not None:
                return found
            # Whoever was killed while making this entry left its scraps; holding the lock, they are ours to remove.
            for scraps in (self.root / "work").glob(f"{lock_name(kind, digest)}-*"):
                shutil.rmtree(scraps, ignore_errors=True)
            work = self.root / "work" / f"{lock_name(kind, digest)}-{uuid.uuid4().hex[:8]}"
            work.mkdir()
            try:
                result = dict(make(work))
                self._seal(work, kind, digest, key, result)
                final = self._place(kind, digest)
                final.parent.mkdir(parents=True, exist_ok=True)
                work.replace(final)
            except OSError as error:
                raise StoreError(
                    f"a store entry could not be written: {error.strerror or error}",
                    where=str(self.root),
                    fix="free disk space, or choose another cache_dir",
                ) from error
            finally:
                shutil.rmtree(work, ignore_errors=True)
        entry = self._used(kind, digest)
        if entry is None:
            raise StoreError("a store entry vanished while it was made", where=str(self.root), fix="run again")
        return entry

    def obtain_json(self, kind: str, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Like `obtain` for one JSON document, kept in the file value.json."""

        def write(directory: Path) -> dict[str, Any]:
            (directory / "value.json").write_text(_dump(make()), encoding="utf-8")
            return {}

        entry = self.obtain(kind, key, write)
        return load_json(entry.file("value.json"))

    def entries(self, kind: str) -> Iterator[Entry]:
        """All finished entries of a kind, by digest."""
        parent = self.root / "entries" / kind
        for path in sorted(parent.iterdir()) if parent.is_dir() else ():
            entry = self._read(kind, path.name)
            if entry is not None:
                yield entry

    def _used(self, kind: str, digest: str) -> Entry | None:
        """The entry, marked so that no clean-up takes it while this process lives."""
        path = self._place(kind, digest)
        if path.is_dir():
            use.renew(self.root, path)
        else:
            use.forget(self.root, path)
        return self._read(kind, digest)

    def _place(self, kind: str, digest: str) -> Path:
        return self.root / "entries" / kind / digest

    @contextlib.contextmanager
    def _lock(self, kind: str, digest: str) -> Iterator[None]:
        with FileLock(lock_file(self.root, kind, digest)):
            yield

    def _seal(self, work: Path, kind: str, digest: str, key: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        files = {}
        for path in sorted(work.rglob("*")):
            if path.is_dir():
                continue
            if path.suffix not in ALLOWED_SUFFIXES:
                raise StoreError(
                    f"the store holds only {' and '.join(ALLOWED_SUFFIXES)}, not {path.name!r}",
                    where=kind,
                    fix="write the data as JSON or safetensors",
                )
            name = path.relative_to(work).as_posix()
            files[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        document = {
            "schema": SCHEMA,
            "kind": kind,
            "digest": digest,
            "key": dict(key),
            "result": dict(result),
            "files": files,
            "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        (work / use.ENTRY_FILE).write_text(_dump(document), encoding="utf-8")

    def _read(self, kind: str, digest: str) -> Entry | None:
        path = self._place(kind, digest)
        if not path.is_dir():
            return None
        try:
            return self._checked(kind, digest, path)
        except StoreError:
            if not path.is_dir():  # taken away between two looks
                return None
            raise

    def _checked(self, kind: str, digest: str, path: Path) -> Entry:
        document = load_json(path / use.ENTRY_FILE)
        damaged = [
            name
            for name, facts in document["files"].items()
            if not (path / name).is_file() or (path / name).stat().st_size != facts["bytes"]
        ]
        if document["schema"] != SCHEMA or document["digest"] != digest or damaged:
            raise StoreError(
                f"store entry {kind}/{digest[:12]} is damaged: "
                f"{', '.join(damaged) or 'its entry.json is of another entry'}",
                where=str(path),
                fix="remove this directory: the entry will be made again",
            )
        return Entry(kind, digest, path, document["key"], document["result"], document["files"])


def lock_name(kind: str, digest: str) -> str:
    """What the lock of an entry is called, and the beginning of the name under which it is made."""
    return f"{kind}-{digest[:32]}"


def lock_file(root: Path, kind: str, digest: str) -> Path:
    """Locked while the entry is made."""
    return root / "locks" / f"{lock_name(kind, digest)}.lock"


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of the store.

    Raises:
        StoreError: it is missing or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"a file of the store cannot be read: {error}",
            where=str(path),
            fix="remove the directory it is in: the entry will be made again",
        ) from error
    if not isinstance(value, dict):
        raise StoreError("a file of the store is not a JSON object", where=str(path), fix="remove its directory")
    return value


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
