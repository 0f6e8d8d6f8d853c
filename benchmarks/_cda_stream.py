"""Memory of the command that augments a file, and augmentation in several processes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from _cda_rows import Row, fill_times, progress
from _cda_speed import generated, size

COMMAND = (sys.executable, "-m", "fairtest")
STREAM = "memory of cda apply"
PROCESSES = "datasets map"
TIMES = 100

# A small process between: the size of a child starts at what its parent had, and this one's has hardly anything.
_LAUNCHER = """
import json, os, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"code": done.returncode, "told": done.stderr[-500:], "peak": peak}))
"""


def memory_rows(*, quick: bool) -> list[Row]:
    """Peak memory of `fairtest cda apply` on a generated corpus and on one a hundred times as long."""
    counts = (50, 50 * TIMES) if quick else (500, 500 * TIMES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            row = Row(STREAM, f"{count} records")
            rows.append(row)
            if util.find_spec("fairtest.__main__") is None:
                row.note = "this fairtest has no command"
                continue
            progress(f"{STREAM}: {count} records")
            _apply(row, Path(folder), count)
    if rows[0].peak_mib:
        for row in rows:
            row.ratio = row.peak_mib / rows[0].peak_mib if row.peak_mib else None
    return rows


def _apply(row: Row, folder: Path, count: int) -> None:
    source, target = folder / f"{count}.jsonl", folder / f"{count}.out.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number, text in enumerate(generated(count)):
            file.write(json.dumps({"id": str(number), "text": text, "label": number % 2}) + "\n")
    command = [*COMMAND, "cda", "apply", str(source), str(target), "--axis", "gender"]
    began = time.perf_counter()
    launched = subprocess.run(  # noqa: S603 - this interpreter and the command beside it
        [sys.executable, "-S", "-c", _LAUNCHER, *command], capture_output=True, text=True, check=True
    )
    row.seconds = time.perf_counter() - began
    done = json.loads(launched.stdout)
    if done["code"] != 0:
        row.seconds, row.note = None, f"failed: {(done['told'].strip().splitlines() or ['no message'])[-1]}"
        return
    with target.open(encoding="utf-8") as file:
        views = sum(1 for _ in file)
    row.peak_mib = done["peak"] / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    row.note = f"{source.stat().st_size / 1e6:.2f} MB in, {views} lines out"


def process_rows(records: Sequence[str], rounds: int) -> list[Row]:
    """Seconds of augment_dataset in one process and in two, starting them included."""
    rows = [Row(PROCESSES, f"num_proc={count}") for count in (1, 2)]
    augment_dataset = getattr(importlib.import_module("fairtest.augmentation"), "augment_dataset", None)
    if augment_dataset is None:
        for row in rows:
            row.note = "fairtest.augmentation has no augment_dataset"
        return rows
    seconds = _seconds_of_processes(augment_dataset, records, rounds)
    for row, spent in zip(rows, seconds, strict=True):
        fill_times(row, spent, seconds[0], size(records) / 1e6)
        row.n = len(records)
    return rows


def _seconds_of_processes(
    augment_dataset: Callable[..., Any], records: Sequence[str], rounds: int
) -> tuple[list[float], list[float]]:
    import datasets

    from fairtest.specs import CDA

    datasets.disable_caching()  # or the second round would find the first one's result
    datasets.disable_progress_bars()
    dataset = datasets.Dataset.from_dict({"text": list(records)})
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds):
        for index in (0, 1)[:: -1 if turn % 2 else 1]:
            progress(f"{PROCESSES}: round {turn + 1} of {rounds}, {index + 1} processes")
            began = time.perf_counter()
            augment_dataset(dataset, CDA(), text_field="text", num_proc=index + 1)
            seconds[index].append(time.perf_counter() - began)
    return seconds
