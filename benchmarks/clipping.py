"""What differential privacy costs in time and memory for each optimizer step, by way of clipping.

    python benchmarks/clipping.py                 the table of all cases (forty minutes or so on two cores)
    python benchmarks/clipping.py --quick         a toy size, to see that it works (within a minute)
    python benchmarks/clipping.py --scale         how the cost grows with batch, sequence and width
    python benchmarks/clipping.py --ideas         three ways to save more, each against the engine without it
    python benchmarks/clipping.py --json FILE     the rows as JSON too

How to read it. A step is forward, backward, clipping of each row of the batch, noise and optimizer, on the same batch
for all methods. The reference, ratio 1, is the same model without privacy: transformers' own loss and torch's fused
AdamW. A method's step is timed right after (or, every other round, right before) one of the reference, and the ratio
is the median over the rounds of these pairs, with the smallest and the largest beside it: ratios hold on a busy machine
where seconds do not. Peak memory is that of a process which runs three steps of one method: the largest resident size
during the steps, less the size before the model was built; weights, gradients, optimizer state, activations.

A wrong method must not look fast: each method's clipped sum is compared with autograd one row at a time in double
precision, and "error" is the relative difference; above 1e-3 the benchmark fails. Below 1e-5 is as good as single
precision gets on a small model; the norms of large matrices that Opacus takes are off by some 1e-5, and all single
precision gradients of SmolLM2 by some 1e-4. What a method refuses says so in its row. With --ideas the
reference of a case is its usual way, and "error" the difference between both sums.
"""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import transformers
from _cases import CASES, QUICK, Case, copy_of, missing_package, scale_cases, unpacked
from _ideas import measure_ideas
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
from _methods import METHODS, PLAIN, PlainAdamW, clipped_sum_by_definition, relative_difference

LARGEST_ERROR = 1e-3
WARM_UP_STEPS = 2
SCALE_METHODS = (PLAIN, "fairtest", "Opacus hooks")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    set_threads(options.threads)
    quieten()
    rounds = options.rounds or (3 if options.quick else 9)
    if options.ideas:
        rows = measure_ideas(rounds, quick=options.quick)
        return report(rows, options, "Clipped gradients of one step, cheaper and usual", rounds)
    if options.scale:
        cases, methods = scale_cases(quick=options.quick), tuple(options.methods or SCALE_METHODS)
    else:
        names = options.cases or (QUICK if options.quick else [name for name in CASES if name not in QUICK])
        cases, methods = [CASES[name] for name in names], tuple(options.methods or METHODS)
    methods = (PLAIN, *(name for name in methods if name != PLAIN))
    rows: list[Row] = []
    for case in cases:
        if reason := missing_package(case):
            rows.append(Row(case.name, PLAIN, note=f"skipped: {reason}"))
        else:
            rows += measure(unpacked(case), methods, rounds, options.threads, memory=not options.no_memory)
        if options.json:  # after each case: a long run that is stopped keeps what it has
            write_json(rows, options.json)
    notes = [f"{case.name}: {case.note}" for case in cases if case.note]
    return report(
        rows, options, "Time and memory of one optimizer step, against plain AdamW in the same run", rounds, notes
    )


def report(rows: Sequence[Row], options: argparse.Namespace, title: str, rounds: int, notes: Sequence[str] = ()) -> int:
    """Prints and writes what was measured; the exit status, 1 where a method computed something else."""
    settings = f"{rounds} paired rounds; C = 1, sigma = 1; ratio: median (smallest-largest)"
    print_table(rows, [title, machine(options.threads), settings, *notes, ""])
    if options.json:
        write_json(rows, options.json)
    wrong = [row for row in rows if row.error is not None and not row.error <= LARGEST_ERROR]
    for row in wrong:
        print(f"wrong: {row.method} differs by {row.error:.1e} in case {row.case}", file=sys.stderr)
    return 1 if wrong else 0


def measure(case: Case, methods: Sequence[str], rounds: int, threads: int, *, memory: bool) -> list[Row]:
    """The rows of a case, the reference first."""
    rows = {name: Row(case.name, name) for name in methods}
    fill_all_times(case, rows, rounds)
    gc.collect()
    if memory:
        measured = [row for row in rows.values() if row.seconds is not None]
        for row in measured:
            progress(f"{case.name}: memory of {row.method}")
            row.peak_mib = peak_mib(peak_of, case, row.method, threads)
        for row in measured:
            if row.peak_mib and rows[PLAIN].peak_mib:
                row.memory_ratio = row.peak_mib / rows[PLAIN].peak_mib
    return list(rows.values())


def fill_all_times(case: Case, rows: Mapping[str, Row], rounds: int) -> None:
    """Seconds and ratios of each row, and how far its clipped sum is from autograd's."""
    progress(f"{case.name}: building")
    pristine = case.build()
    ids = case.ids(pristine)
    expected = clipped_sum_by_definition(copy_of(pristine), ids)
    plain = PlainAdamW(copy_of(pristine), ids).step
    warm_up(plain)
    reference = []
    for name, row in rows.items():
        if name == PLAIN:
            continue
        method = METHODS[name]
        try:
            row.error = relative_difference(method(copy_of(pristine), ids).clipped_sum(), expected)
        except NotImplementedError as error:
            row.note = f"refused: {error}"
            continue
        step = method(copy_of(pristine), ids).step
        warm_up(step)
        pairs = paired(plain, step, rounds)
        fill_times(row, pairs)
        progress(f"{case.name}: {name}: {row.ratio:.2f} ({row.low:.2f}-{row.high:.2f})")
        reference += [first for first, _ in pairs]
    reference = reference or [seconds_of(plain) for _ in range(rounds)]
    fill_times(rows[PLAIN], [(seconds, seconds) for seconds in reference])


def warm_up(step: Callable[[], None]) -> None:
    """The first steps make the optimizer's state and pay for what happens once."""
    for _ in range(WARM_UP_STEPS):
        step()


def peak_of(case: Case, method: str, threads: int) -> float:
    """Peak resident MiB of three steps, less what there was before the model."""
    set_threads(threads)
    quieten()
    before = resident_mib()
    loaded = case.build()
    ids = case.ids(loaded)
    loaded.model.train()
    gc.collect()
    forget_peak()
    step = METHODS[method](loaded, ids).step
    for _ in range(3):
        step()
    return recorded_peak_mib() - before


def quieten() -> None:
    """Holds back what libraries say about hooks and losses; no figure depends on it."""
    warnings.filterwarnings("ignore", "Full backward hook is firing")
    transformers.logging.set_verbosity_error()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a toy size and three rounds, within a minute")
    parser.add_argument("--scale", action="store_true", help="how the cost grows with batch, sequence and width")
    parser.add_argument("--ideas", action="store_true", help="three ways to save more, against the engine without")
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=f"of: {'; '.join(CASES)}")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="METHOD", help=f"of: {'; '.join(METHODS)}")
    parser.add_argument("--rounds", type=int, help="pairs of steps for each method (9, or 3 with --quick)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (2)")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
