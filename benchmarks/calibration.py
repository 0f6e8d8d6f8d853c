"""How often verdicts are wrong: simulated experiments whose truth is known, and real training in which nothing changed.

    python benchmarks/calibration.py                       the whole table but training (some ten minutes on one core)
    python benchmarks/calibration.py --quick               few repetitions, to see that it works (within a minute)
    python benchmarks/calibration.py --part null-training  baselines against baselines (some minutes more)
    python benchmarks/calibration.py --json FILE           the rows as JSON too

How to read it. Rates are percent with their exact 95% interval. "unchanged: FAIL": both arms are drawn alike, and the
rule says FAIL. "boundary": the true change is exactly what the gate allows, so that FAIL and PASS are both errors: no
other truth gives more of either. "coverage": the 95% interval holds the true change (there). "power": FAIL where the
change is beyond the allowed one by the minimum detectable effect that the plan states for power 80%.

A rule without an interval says PASS wherever it does not say FAIL. "candidate > baseline" asks for any increase, "more
than allowed" for one above the threshold; "intervals do not overlap" compares the arms' own 95% intervals; "items
alone" is a paired interval over items with seeds averaged; "crossed bootstrap" is fairtest's rule with a percentile
bootstrap over seeds and clusters in the place of t intervals.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything that reads it is imported

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from _calibration_families import adaptive_rows, family_rows
from _calibration_rows import Row, machine, print_table, write_json
from _calibration_rules import FAIRTEST, world_rows
from _calibration_worlds import GATES, STEREOSET, TEMPLATES, WORLDS

PARTS = ("worlds", "adaptive", "families", "null-training")
FAMILIES = (8, 13)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    repeats = options.repeats or (60 if options.quick else 2000)
    others = min(repeats, 20 if options.quick else 1000)
    rows: list[Row] = []
    for part in options.part:
        cases = _training(options) if part == "null-training" else _part(part, repeats, others)
        for made in cases:
            rows += made
            if options.json:  # after each case: a long run that is stopped keeps what it has
                write_json(rows, options.json)
    print_table(rows, ["Calibration: percent of repetitions (95% interval of that percentage)", machine(), ""])
    return 0


def _part(part: str, repeats: int, others: int) -> Iterator[list[Row]]:
    if part == "worlds":
        for world in WORLDS:
            for seeds in (3, 5):
                _progress(f"{world.name}, {seeds} seeds")
                yield world_rows(world, seeds, repeats, others)
        for seeds in (2, 10):
            _progress(f"{STEREOSET.name}, {seeds} seeds")
            yield world_rows(STEREOSET, seeds, repeats, others, (FAIRTEST,))
    elif part == "adaptive":
        for world in (STEREOSET, TEMPLATES):
            _progress(f"{world.name}, adaptive seeds")
            yield adaptive_rows(world, repeats)
    elif part == "families":
        for gate in GATES:
            for gates in FAMILIES:
                _progress(f"{gates} gates {gate.name}")
                yield family_rows(gate, gates, max(1, repeats // 2))


def _training(options: argparse.Namespace) -> Iterator[list[Row]]:
    from _calibration_training import null_rows, trained_pool  # imports torch

    runs, steps = (options.runs or 12, 5) if options.quick else (options.runs or 60, 40)
    pool = trained_pool(options.store, runs, steps, _progress)
    yield null_rows(pool)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions, within a minute")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS[:3], help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--repeats", type=int, help="repetitions of a row (2000, or 60 with --quick)")
    parser.add_argument("--runs", type=int, help="baselines that null-training trains (60, or 12 with --quick)")
    parser.add_argument(
        "--store",
        type=Path,
        default=Path(".fairtest/null-training"),
        metavar="DIR",
        help="where they are kept, so that a later run goes on (.fairtest/null-training)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
