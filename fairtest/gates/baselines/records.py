"""From what the tests of a session did with baselines to the files: written once, by the process that sees them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairtest.gates.assertions import undecided_policy
from fairtest.gates.baselines.entry import BaselineEntry, BaselineError, BaselineKey
from fairtest.gates.baselines.files import load, prune, unused, update
from fairtest.settings import Settings

# What `regression` returns as its record, plus the test: {"file", "model", "key", "status", "entry", "test"}. Status
# "compared": nothing to write; "recorded": the entry is; "blocked": it was to be recorded, and a guard stopped it.
Record = Mapping[str, Any]
_SHOWN = 10


def under_ci() -> bool:
    """Whether this is a build server, where nobody looks at what is written and nobody commits it."""
    return undecided_policy(Settings()) == "fail"


def apply_records(
    records: Sequence[Record],
    *,
    recording: bool = False,
    pruning: bool = False,
    complete: bool = False,
    ci: bool = False,
) -> list[str]:
    """Writes what the tests recorded, and removes what nobody asked for if that was asked for; returns the lines that
    tell a person.

    Args:
        records: of all tests.
        recording: an update was asked for; without it nothing is written.
        pruning: entries that no test asked for are to be removed.
        complete: every test ran and passed, so that the records tell all that is asked for. Without it no entry counts
            as unused.
        ci: this is a build server.

    Raises:
        BaselineError: a file cannot be read or written, or anything is to be written on a build server.
    """
    if ci and (recording or pruning):
        raise BaselineError(
            "baselines are not written on a build server",
            where="--fairtest-update-baseline, --fairtest-prune",
            fix="run it on a machine of yours, look at the changes, and commit the file",
        )
    by_file: dict[Path, list[Record]] = defaultdict(list)
    for record in records:
        by_file[Path(record["file"])].append(record)
    lines: list[str] = []
    if recording:
        for path, group in sorted(by_file.items()):
            lines += _record(path, group)
    used = {path: {BaselineKey.parse(record["key"]) for record in group} for path, group in by_file.items()}
    if complete:
        others = {found for path in by_file for found in path.parent.glob("*.json")} - used.keys()
        for path in sorted({*used, *others}):
            lines += _unused(path, used.get(path, set()), pruning=pruning)
    elif pruning:
        lines.append(
            "no baseline was pruned: a test failed, was skipped or left out, and nobody knows what it would ask for"
        )
    return lines


def _record(path: Path, group: Sequence[Record]) -> list[str]:
    by_key: dict[str, list[Record]] = defaultdict(list)
    for record in group:
        by_key[record["key"]].append(record)
    entries, refused = [], []
    for name, same in sorted(by_key.items()):
        key = BaselineKey.parse(name)
        found = [BaselineEntry.from_dict(key, record["entry"]) for record in same if record["status"] == "recorded"]
        problem = _problem(same, found)
        if problem:
            refused.append(f"  {key.arm}, {key.metric}: NOT recorded, {problem}")
        elif found:
            entries.append(max(found, key=lambda entry: entry.seeds))
    changes = update(path, entries, group[0]["model"]) if entries else []
    if not changes and not refused:
        return []
    written = sum(change.written for change in changes)
    head = f"baselines: {written} written to {_shown(path)}" + (", commit it" if written else "")
    return [head, *(f"  {change.line()}" for change in changes), *refused]


def _problem(records: Iterable[Record], found: Sequence[BaselineEntry]) -> str:
    """Why nothing of one key may be written; "" where it may."""
    blocked = [record.get("test", "") for record in records if record["status"] == "blocked"]
    if blocked:
        return f"a guard is not met, or its values say nothing ({blocked[0] or 'no test'})"
    most = max(found, key=lambda entry: entry.seeds, default=None)
    if most is not None and any(entry.values != most.values[: entry.seeds] for entry in found):
        tests = ", ".join(str(record.get("test", "")) for record in records if record["status"] == "recorded")
        return f"tests with other settings give this arm other values ({tests}): give one of them a name of its own"
    return ""


def _unused(path: Path, used: set[BaselineKey], *, pruning: bool) -> list[str]:
    try:
        keys = prune(path, used) if pruning else unused(load(path), used)
    except BaselineError as error:
        return [f"baselines: {_shown(path)}: {error.what}"]
    if not keys:
        return []
    count = f"{len(keys)} baseline{'s' if len(keys) > 1 else ''}"
    head = f"pruned {count} that no test asks for from {_shown(path)}"
    if not pruning:
        head = f"no test asks for {count} in {_shown(path)} (--fairtest-prune removes them)"
    lines = [head, *(f"  {key.text}" for key in keys[:_SHOWN])]
    return lines if len(keys) <= _SHOWN else [*lines, f"  and {len(keys) - _SHOWN} more"]


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
