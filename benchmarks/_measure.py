"""Paired times, peak memory in a process of its own, one table."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from _table import number, print_cells, processor

_PRELOADED = (
    "torch",
    "opacus.grad_sample",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
)


@dataclass
class Row:
    """One line of the table. `ratio` is the time over the reference's; None where there is nothing to say."""

    case: str
    method: str
    seconds: float | None = None
    peak_mib: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    memory_ratio: float | None = None
    error: float | None = None
    note: str = ""


def seconds_of(step: Callable[[], None]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def paired(reference: Callable[[], None], other: Callable[[], None], rounds: int) -> list[tuple[float, float]]:
    """Seconds of both, right after each other, in turns A B, B A, ...: what slows the machine down slows both down."""
    pairs = []
    for index in range(rounds):
        if index % 2:
            second, first = seconds_of(other), seconds_of(reference)
        else:
            first, second = seconds_of(reference), seconds_of(other)
        pairs.append((first, second))
    return pairs


def fill_times(row: Row, pairs: Sequence[tuple[float, float]]) -> None:
    """Median seconds; median, smallest and largest of the paired ratios."""
    ratios = [second / first for first, second in pairs]
    row.seconds = statistics.median(second for _, second in pairs)
    row.ratio, row.low, row.high = statistics.median(ratios), min(ratios), max(ratios)


def peak_mib(measure: Callable[..., float], *arguments: Any) -> float | None:
    """What `measure` returns in a fresh process; None where the platform has no /proc or the process failed.

    The processes are forked from one that has imported the libraries and run nothing, so each starts alike.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, measure, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()


def _send(sender: Any, measure: Callable[..., float], arguments: Sequence[Any]) -> None:
    sender.send(measure(*arguments))


def resident_mib() -> float:
    """What this process has in memory now."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Starts the record of the largest resident size anew, so that building a model does not count."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def recorded_peak_mib() -> float:
    """The largest resident size since `forget_peak`."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def machine(threads: int) -> str:
    """The facts that figures depend on."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "opacus"))
    return f"{processor()}, {os.cpu_count()} cores, {threads} threads, Python {platform.python_version()}, {versions}"


def print_table(rows: Sequence[Row], header: Sequence[str]) -> None:
    """Fixed-width text on standard output."""
    names = ("case", "method", "s/step", "time ratio", "(min-max)", "peak MiB", "memory ratio", "error", "")
    print_cells([names, *map(_cells, rows)], header)


def _cells(row: Row) -> tuple[str, ...]:
    spread = "" if row.low is None or row.high is None else f"({row.low:.2f}-{row.high:.2f})"
    return (
        row.case,
        row.method,
        number(row.seconds, ".3f"),
        number(row.ratio, ".2f"),
        spread,
        number(row.peak_mib, ".0f"),
        number(row.memory_ratio, ".2f"),
        number(row.error, ".0e"),
        row.note,
    )


def write_json(rows: Sequence[Row], path: Path) -> None:
    """A list of {case, method, seconds, peak_mib, ratio}; null where nothing was measured."""
    names = ("case", "method", "seconds", "peak_mib", "ratio")
    data = [{name: getattr(row, name) for name in names} for row in rows]
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def progress(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def set_threads(threads: int) -> None:
    """The number of threads that torch computes with, in this process."""
    torch.set_num_threads(threads)
