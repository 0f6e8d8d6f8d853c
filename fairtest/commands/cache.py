"""`fairtest cache ls | gc | verify`: what lies in the store, what may go, and whether it is sound."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fairtest.commands.project import age, amount, counted, project_settings

if TYPE_CHECKING:
    from fairtest.settings import Settings
    from fairtest.store.checking import Damage
    from fairtest.store.listing import Listed

DAMAGED = 1
_DAY, _GB = 86_400.0, 1e9
_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser(
        "ls", help="what is kept: entries by kind, runs by arm", description="Shows what the store holds."
    )
    show.add_argument("--all", action="store_true", help="a line for every entry, not for runs alone")
    show.add_argument("--json", action="store_true", help="every entry as JSON")
    show.set_defaults(run=_ls)
    gc = actions.add_parser(
        "gc",
        help="removes what was not used for long, and what killed processes left",
        description=(
            "Removes what killed processes left and, with a limit, entries: those that were not used for long, or that"
            " were used longest ago. Nothing that a running process reads or makes is removed. What is gone is trained"
            " or scored again when a gate asks for it."
        ),
    )
    gc.add_argument("--older-than", type=_amount, metavar="DAYS", help="entries that were not used for so many days")
    gc.add_argument("--keep-size", type=_amount, metavar="GB", help="the entries used longest ago, until GB are left")
    gc.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    gc.set_defaults(run=_gc)
    verify = actions.add_parser(
        "verify",
        help="looks for damaged entries",
        description=(
            "Reads every entry: digests, sizes, JSON, tensors, and that all numbers are finite. Exit status 1 where an"
            " entry is damaged and still there."
        ),
    )
    verify.add_argument("--remove", action="store_true", help="remove damaged entries, which are then made again")
    verify.set_defaults(run=_verify)
    for action in (show, gc, verify):
        action.add_argument("--cache-dir", metavar="DIR", help="the store (default: that of the settings)")


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def _ls(options: argparse.Namespace) -> int:
    from fairtest.store.listing import listed
    from fairtest.store.naming import arm_names, entry_name

    root, settings = _store(options)
    entries = listed(root)
    runs = arm_names(entries, {} if settings is None else {**settings.arms(), **settings.ablations()})
    names = [entry_name(entry, runs) for entry in entries]
    if options.json:
        rows = [_plain(entry, name) for entry, name in zip(entries, names, strict=True)]
        _put([json.dumps({"store": str(root), "entries": rows}, indent=1)])
        return os.EX_OK
    now = time.time()
    total = sum(entry.size for entry in entries)
    lines = [f"{root}: {counted(len(entries), 'entry', 'entries')}, {amount(total)}"]
    if entries:
        lines += ["", *_by_kind(entries, now)]
    shown = [(entry, name) for entry, name in zip(entries, names, strict=True) if options.all or entry.kind == "run"]
    if shown:
        lines += ["", *_each(shown, now, kinds=options.all)]
    _put(lines)
    return os.EX_OK


def _gc(options: argparse.Namespace) -> int:
    from fairtest.store.cleaning import clean

    root, settings = _store(options)
    runs = _runs(root, settings)
    done = clean(
        root,
        older_than=None if options.older_than is None else options.older_than * _DAY,
        keep_bytes=None if options.keep_size is None else int(options.keep_size * _GB),
        dry_run=options.dry_run,
    )
    word = "would remove" if options.dry_run else "removed"
    lines = _named(done.removed, runs, word)
    lines += [f"{word} {_shorter(left.path, root)} (unfinished), {amount(left.size)}" for left in done.leftovers]
    lines += [f"left {entry.name}: in use" for entry in done.in_use]
    freed = f"{'would free' if options.dry_run else 'freed'} {amount(done.freed)}"
    removed = counted(len(done.removed), "entry", "entries")
    left = counted(len(done.leftovers), "unfinished piece")
    lines.append(
        f"{freed}: {removed}, {left}; {counted(done.kept, 'entry', 'entries')} kept, {amount(done.kept_bytes)}"
    )
    if options.older_than is None and options.keep_size is None and done.kept:
        lines.append("entries go with a limit: --older-than DAYS or --keep-size GB")
    _put(lines)
    return os.EX_OK


def _verify(options: argparse.Namespace) -> int:
    from fairtest.experiments.progress import Progress
    from fairtest.store.checking import damage_of
    from fairtest.store.cleaning import leftovers, remove
    from fairtest.store.listing import listed

    root, settings = _store(options)
    entries = listed(root)
    damaged: list[Damage] = []
    with Progress(lambda: sys.stderr).work("check the store", len(entries), "entry", minor=True) as advance:
        for entry in entries:
            found = damage_of(entry)
            damaged += [found] if found else []
            advance()
    lines = [f"damaged: {damage.entry.name}: {'; '.join(damage.problems)}" for damage in damaged]
    in_use: list[Listed] = []
    if options.remove and damaged:
        runs = _runs(root, settings)
        removed, in_use = remove(root, [damage.entry for damage in damaged])
        lines += _named(removed, runs, "removed")
        lines += [f"left {entry.name}: in use" for entry in in_use]
    sound = counted(len(entries) - len(damaged), "entry", "entries")
    lines.append(f"{sound} sound, {len(damaged)} damaged")
    unfinished = leftovers(root)
    if unfinished:
        size = amount(sum(left.size for left in unfinished))
        lines.append(f"{counted(len(unfinished), 'unfinished piece')} ({size}) of killed processes: fairtest cache gc")
    if damaged and not options.remove:
        lines.append("fairtest cache verify --remove takes damaged entries away: they are made again when needed")
    _put(lines)
    return DAMAGED if damaged and (in_use or not options.remove) else os.EX_OK


def _store(options: argparse.Namespace) -> tuple[Path, Settings | None]:
    """The store, which has to be there, and the settings where they can be read."""
    from fairtest.errors import FairtestError, StoreError

    settings: Settings | None = None
    try:
        settings, _ = project_settings()
    except FairtestError:
        if options.cache_dir is None:
            raise
    root = Path(options.cache_dir or settings.cache_dir if settings else options.cache_dir)
    if not (root / "entries").is_dir():
        raise StoreError(
            "there is no store",
            where=str(root),
            fix="name it with --cache-dir DIR; pytest and fairtest run make one when they first train",
        )
    return root, settings


def _by_kind(entries: Sequence[Listed], now: float) -> list[str]:
    from fairtest.commands.table import table_lines

    rows = []
    for kind in sorted({entry.kind for entry in entries}):
        own = [entry for entry in entries if entry.kind == kind]
        size = amount(sum(entry.size for entry in own))
        oldest, last = min(entry.made_at for entry in own), max(entry.used_at for entry in own)
        rows.append((kind, f"{len(own):,}", size, f"{age(now - oldest)} ago", f"{age(now - last)} ago"))
    return table_lines(("kind", "entries", "size", "oldest", "last used"), rows)


def _each(shown: Sequence[tuple[Listed, str]], now: float, *, kinds: bool) -> list[str]:
    from fairtest.commands.table import table_lines

    rows = []
    for entry, name in shown:
        first = f"{entry.name} {name}".strip() if kinds else name or entry.name
        times = (f"{age(now - entry.made_at)} ago", f"{age(now - entry.used_at)} ago")
        rows.append((first, amount(entry.size), *times))
    return table_lines(("entry" if kinds else "run", "size", "made", "last used"), sorted(rows))


def _runs(root: Path, settings: Settings | None) -> dict[str, tuple[str, int | None]]:
    from fairtest.store.listing import listed
    from fairtest.store.naming import arm_names

    return arm_names(listed(root), {} if settings is None else {**settings.arms(), **settings.ablations()})


def _named(entries: Sequence[Listed], runs: Mapping[str, tuple[str, int | None]], word: str) -> list[str]:
    """A line an entry, of many the first ones."""
    from fairtest.store.naming import entry_name

    lines = []
    for entry in entries[:_SHOWN]:
        name = entry_name(entry, runs)
        lines.append(f"{word} {entry.name}{f' ({name})' if name else ''}, {amount(entry.size)}")
    if len(entries) > _SHOWN:
        lines.append(f"{word} {len(entries) - _SHOWN} more")
    return lines


def _plain(entry: Listed, name: str) -> dict[str, object]:
    return {
        "kind": entry.kind,
        "digest": entry.digest,
        "name": name,
        "bytes": entry.size,
        "made_at": entry.made_at,
        "used_at": entry.used_at,
        "key": dict(entry.key),
    }


def _shorter(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _put(lines: Sequence[str]) -> None:
    from fairtest.commands.table import wrapped

    # Rows of a table are as wide as they are; sentences are wrapped.
    sys.stdout.write("\n".join(part for line in lines for part in ([line] if "  " in line else wrapped(line) or [""])))
    sys.stdout.write("\n")
