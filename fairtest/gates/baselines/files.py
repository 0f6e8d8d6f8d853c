"""Stored baselines: one file a model in the user's repository, against which later models are compared.

Nothing is written here unless it is asked for, and then only the keys that were asked for.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from fairtest.digests import digest_of
from fairtest.gates.baselines.entry import BaselineEntry, BaselineError, BaselineKey
from fairtest.gates.baselines.format import dump, parse

UPDATE = "pytest --fairtest-update-baseline=new"


@dataclass(frozen=True)
class BaselineFile:
    """The baselines of one model, as they were when the file was read. A file that is not there has none."""

    path: Path
    model: str
    entries: dict[BaselineKey, BaselineEntry] = field(default_factory=dict)

    def get(self, key: BaselineKey) -> BaselineEntry | None:
        """The entry of this key, None where there is none."""
        return self.entries.get(key)

    def require(self, key: BaselineKey) -> BaselineEntry:
        """The entry of this key.

        Raises:
            BaselineError: there is none; the message says whether there is one of other probes or another protocol.
        """
        entry = self.get(key)
        if entry is not None:
            return entry
        others = [other for other in self.entries if (other.arm, other.metric) == (key.arm, key.metric)]
        if others:
            other = others[-1]
            changed = "protocol" if other.protocol != key.protocol else "probes"
            were, are = getattr(other, changed), getattr(key, changed)
            raise BaselineError(
                f"the baseline of {key.arm} for {key.metric} was measured with other "
                f"{'probes' if changed == 'probes' else 'definitions'} ({changed} {were}, now {are}), "
                "so the two cannot be compared",
                where=str(self.path),
                fix=f"find out what changed; to begin anew run {UPDATE} on a model you trust, and commit the file",
            )
        there = sorted({f"{other.arm} for {other.metric}" for other in self.entries})
        raise BaselineError(
            f"no baseline for {key.metric} of {key.arm}",
            where=str(self.path) + (f" (it has {', '.join(there[:5])})" if there else " (no such file)"),
            fix=f"run {UPDATE} and commit the file",
        )


@dataclass(frozen=True)
class Change:
    """What an update did with one entry; `old` None: there was none."""

    old: BaselineEntry | None
    new: BaselineEntry

    @property
    def written(self) -> bool:
        """Whether anything but the metadata is different."""
        return self.old != self.new

    def line(self) -> str:
        """For a person: old -> new."""
        name = f"{self.new.key.arm}, {self.new.key.metric}"
        if self.old is None:
            return f"{name}: none -> {self.new.text()}"
        if not self.written:
            return f"{name}: unchanged, {self.new.text()}"
        return f"{name}: {self.old.text()} ({self.old.date}) -> {self.new.text()}"


def model_name(model: str, directory: Path) -> str:
    """What a model is called in its file: as it was set, and a directory by its path within the project (the parent
    of the baselines' `directory`), or by its last part where it lies elsewhere, so that every machine says the same.
    """
    path = Path(model).expanduser()
    if not path.is_absolute() and not path.is_dir():
        return model
    path, project = path.resolve(), directory.resolve().parent
    return path.relative_to(project).as_posix() if path.is_relative_to(project) else path.name


def file_of(model: str, directory: Path) -> Path:
    """The file of a model (by its name, see `model_name`) in the baselines' directory."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "--", model).strip(".-") or "model"
    if len(safe) > 100:
        safe = f"{safe[:83]}-{digest_of(model)[:16]}"
    return directory / f"{safe}.json"


def load(path: Path, model: str = "") -> BaselineFile:
    """The baselines of a file; none, where there is no file. `model`: whose they have to be ("": whoever's).

    Raises:
        BaselineError: it cannot be read, holds what it cannot, or belongs to another model.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return BaselineFile(path, model)
    except UnicodeDecodeError as error:
        raise BaselineError(
            f"the baselines are no UTF-8 text: {error}", where=str(path), fix="take the committed file back"
        ) from error
    except OSError as error:
        raise BaselineError(
            f"the baselines cannot be read: {error.strerror or error}",
            where=str(path),
            fix="correct its permissions, or the setting baseline_dir",
        ) from error
    found, entries = parse(text, path)
    if model and found != model:
        raise BaselineError(
            f"the baselines are of the model {found!r}, and this one is {model!r}",
            where=str(path),
            fix="the two names make one file name: rename one model, or set another baseline_dir for it",
        )
    return BaselineFile(path, found, entries)


def update(path: Path, entries: Sequence[BaselineEntry], model: str) -> list[Change]:
    """Writes these entries and leaves all others as they are; whole or not at all. What is the same but for its
    metadata is left as it is too.

    Raises:
        BaselineError: the file there cannot be read, or cannot be written.
    """
    with _locked(path):
        file = load(path, model)
        changes = [Change(file.get(entry.key), entry) for entry in entries]
        changed = {change.new.key: change.new for change in changes if change.written}
        if changed:
            _write(BaselineFile(path, model, {**file.entries, **changed}))
    return changes


def unused(file: BaselineFile, used_keys: Collection[BaselineKey]) -> list[BaselineKey]:
    """Entries that nobody asked for, sorted."""
    return sorted(set(file.entries) - set(used_keys))


def prune(path: Path, used_keys: Collection[BaselineKey]) -> list[BaselineKey]:
    """Removes the entries that nobody asked for and returns their keys; a file without any is removed.

    Raises:
        BaselineError: as `update`.
    """
    with _locked(path):
        file = load(path)
        gone = unused(file, used_keys)
        kept = {key: entry for key, entry in file.entries.items() if key not in gone}
        if gone and kept:
            _write(BaselineFile(path, file.model, kept))
        elif gone:
            try:
                path.unlink()
            except OSError as error:
                raise _unwritable(path, error) from error
    return gone


def _write(file: BaselineFile) -> None:
    text = dump(file.model, {key.text: entry.as_dict() for key, entry in file.entries.items()})
    partial = file.path.with_name(f".{file.path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        partial.replace(file.path)
    except OSError as error:
        raise _unwritable(file.path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _unwritable(path: Path, error: OSError) -> BaselineError:
    return BaselineError(
        f"the baselines cannot be written: {error.strerror or error}",
        where=str(path),
        fix="choose a writable directory with the setting baseline_dir",
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time. The lock lies in the temporary directory: the user's repository gets no file but the one
    it asked for.
    """
    name = digest_of([str(Path("~").expanduser()), str(path.resolve())])[:32]
    try:
        lock = FileLock(Path(tempfile.gettempdir()) / f"fairtest-baseline-{name}.lock")
        lock.acquire()
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()
