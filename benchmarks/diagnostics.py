"""What it costs to look at groups of units while a model is trained.

    python benchmarks/diagnostics.py                 two runs of a model of 4 layers (some minutes on two cores)
    python benchmarks/diagnostics.py --quick         a toy size, to see that it works (within a minute)
    python benchmarks/diagnostics.py --json FILE     the rows as JSON too

How to read it. The reference, ratio 1, is the same run without diagnostics. A run with them is timed right after (or,
every other round, right before) one of the reference, and the ratio is the median over these pairs, with the smallest
and the largest beside it; seconds are those of a whole run. "held-out groups" is the usual way: two groups of 16 units
that are not trained on, at as many steps as a tenth of the run's time allows. "units' own norms" reads what clipping
computes of the private units anyway. "with excess loss" is "held-out groups" with its decomposition at five steps: what
is asked for beyond the tenth. The last column has the number of looks, the share of the run that was expected by count
of tokens, and how many steps of equally many tokens one look took: the schedule reckons with 2.

Diagnostics must not change a run: "error" is the relative difference of the trained weights from those of the
reference, and the benchmark fails unless it is exactly 0. Peak memory is that of a process of its own, less what there
was before the model was built.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _cases import copy_of
from _measure import (
    Row,
    fill_times,
    forget_peak,
    machine,
    paired,
    peak_mib,
    print_table,
    progress,
    recorded_peak_mib,
    resident_mib,
    seconds_of,
    set_threads,
    write_json,
)
from _trunk_cases import _WORDS, _gpt2

from fairtest.augmentation import UnitViews
from fairtest.specs import Training
from fairtest.training.diagnostics import BatchDiagnostics, HeldOutDiagnostics, Observations
from fairtest.training.finetune import NoiseSpec, finetune
from fairtest.training.models import LoadedModel

PLAIN, HELD_OUT, OWN, DECOMPOSED = "no diagnostics", "held-out groups", "units' own norms", "with excess loss"
NOISE = NoiseSpec(noise_multiplier=0.7, max_grad_norm=1.0)
UNITS_PER_GROUP = 16


@dataclass(frozen=True)
class Case:
    """A random GPT-2 with `shape`, trained on `records` records of `tokens` tokens."""

    name: str
    training: Training
    noise: NoiseSpec | None
    shape: tuple[tuple[str, int], ...]
    records: int
    tokens: int

    @property
    def methods(self) -> tuple[str, ...]:
        """All that can be done in it: without clipping nobody computes norms."""
        return (HELD_OUT,) if self.noise is None else (HELD_OUT, OWN, DECOMPOSED)

    def build(self) -> LoadedModel:
        """The model before training."""
        return _gpt2(self.training, tokens=self.tokens, tied=True, **dict(self.shape))

    def texts(self, prefix: str, count: int) -> list[UnitViews]:
        """Units of one record of random words."""
        rng = random.Random(prefix)
        return [UnitViews(f"{prefix}{i}", (" ".join(rng.choices(_WORDS, k=self.tokens - 1)),)) for i in range(count)]


def cases(*, quick: bool) -> list[Case]:
    """A private run of all parameters, and the same without privacy."""
    shape = {"layers": 1, "width": 32, "heads": 2, "vocabulary": 512}
    size, steps, tokens = 32, 48, 12
    if not quick:
        shape = {"layers": 4, "width": 192, "heads": 4, "vocabulary": 4096}
        size, steps, tokens = 32, 60, 34
    training = Training(steps=steps, batch_size=size, max_length=tokens, learning_rate=1e-4)
    name = f"GPT-2 {shape['layers']} x {shape['width']}, {steps} steps of {size}"
    dp = Case(f"{name}, DP", training, NOISE, tuple(shape.items()), 512, tokens)
    return [dp, replace(dp, name=f"{name}, no DP", noise=None)]


class Bench:
    """Runs of a case: each starts from a copy of the same model, made beforehand."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.loaded = case.build()
        self.units = case.texts("unit", case.records)
        self.groups = {name: case.texts(name, UNITS_PER_GROUP) for name in ("first", "second")}
        self.weights = torch.zeros(0)
        self.seen = Observations()

    def observe(self, method: str) -> Any:
        """A new observer of a method."""
        if method == OWN:
            return BatchDiagnostics({unit.id: unit.id[-1] for unit in self.units})
        if method == PLAIN:
            return None
        return HeldOutDiagnostics(self.groups, decompose=method == DECOMPOSED)

    def difference(self, expected: torch.Tensor) -> float:
        """Of the last run's weights from others, relatively."""
        return float((self.weights - expected).norm() / expected.norm())

    def call(self, method: str) -> Callable[[], None]:
        """A whole run."""

        def run() -> None:
            loaded = copy_of(self.loaded)
            observer = self.observe(method)
            finetune(loaded, self.units, self.case.training, self.case.noise, seed=0, observer=observer)
            if observer is not None:
                self.seen = observer.observations
            self.weights = torch.cat([p.detach().reshape(-1) for p in loaded.model.parameters()])

        return run


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    set_threads(options.threads)
    rounds = options.rounds or 3
    rows: list[Row] = []
    for case in cases(quick=options.quick):
        rows += measure(case, rounds, options.threads, memory=not options.no_memory)
        if options.json:  # after each case: a long run that is stopped keeps what it has
            write_json(rows, options.json)
    settings = f"{rounds} paired rounds; ratio: median (smallest-largest); two groups of {UNITS_PER_GROUP} units"
    print_table(rows, ["Diagnostics of a run, against the run without", machine(options.threads), settings, ""])
    wrong = [row for row in rows if row.error]
    for row in wrong:
        print(f"wrong: {row.method} changed the weights by {row.error:.1e} in case {row.case}", file=sys.stderr)
    return 1 if wrong else 0


def measure(case: Case, rounds: int, threads: int, *, memory: bool) -> list[Row]:
    """The rows of a case, the reference first."""
    bench = Bench(case)
    reference = Row(case.name, PLAIN)
    rows = [reference, *(Row(case.name, method) for method in case.methods)]
    plain = bench.call(PLAIN)
    first = [seconds_of(plain)]
    expected = bench.weights
    seen: list[float] = []
    for row in rows[1:]:
        call = bench.call(row.method)
        call()
        row.error = bench.difference(expected)
        pairs = paired(plain, call, rounds)
        fill_times(row, pairs)
        seen += [seconds for seconds, _ in pairs]
        row.note = _note(bench, case, sum(seconds for seconds, _ in pairs) / len(pairs))
        progress(f"{case.name}: {row.method}: {row.ratio:.3f} ({row.low:.3f}-{row.high:.3f}) {row.note}")
    fill_times(reference, [(seconds, seconds) for seconds in seen or first])
    del bench
    gc.collect()
    if memory:
        for row in rows:
            progress(f"{case.name}: memory of {row.method}")
            row.peak_mib = peak_mib(peak_of, case, row.method, threads)
            if row.peak_mib and reference.peak_mib:
                row.memory_ratio = row.peak_mib / reference.peak_mib
    return rows


def _note(bench: Bench, case: Case, run_seconds: float) -> str:
    seen = bench.seen
    if not seen.cost:
        return f"{len(seen.steps)} points"
    look = seen.seconds / len(seen.steps)
    equal_steps = 2 * UNITS_PER_GROUP / case.training.batch_size
    steps = look / (run_seconds / case.training.steps) / equal_steps
    return f"{len(seen.steps)} looks, expected {seen.cost:.0%}, a look is {steps:.2f} steps"


def peak_of(case: Case, method: str, threads: int) -> float:
    """Peak resident MiB of a run of three steps, less what there was before the model."""
    set_threads(threads)
    before = resident_mib()
    bench = Bench(replace(case, training=replace(case.training, steps=3)))
    gc.collect()
    forget_peak()
    bench.call(method)()
    return recorded_peak_mib() - before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a toy size, within a minute")
    parser.add_argument("--rounds", type=int, help="pairs of runs for each way (3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (2)")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
