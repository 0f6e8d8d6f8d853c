"""Real training in which nothing changed: baselines of the embedded model against baselines with other seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _calibration_rows import Row

from fairtest.experiments.experiment import Experiment
from fairtest.metrics import item_values, parse_metric
from fairtest.settings import Settings
from fairtest.statistics.intervals import amplification_interval
from fairtest.store import Store
from fairtest.tiny.generator import corpus, write_jsonl

METRIC = "templates.log_ratio[gender]"
SIDE = 3
ALLOWED = 0.25  # what the example of the release gate allows, in nats
SPLITS = 2000


@dataclass(frozen=True)
class Pool:
    """Item values of many baseline runs [runs, items] and their two factors of clusters [2, items]."""

    values: npt.NDArray[np.float64]
    clusters: npt.NDArray[np.str_]
    target: float | None


def trained_pool(directory: Path, runs: int, steps: int, progress: Callable[[str], None]) -> Pool:
    """Baselines with seeds 0 to `runs` - 1, from `directory` where they are there already, else trained into it."""
    directory.mkdir(parents=True, exist_ok=True)
    records = directory / "records.jsonl"
    write_jsonl(corpus("private", 0.65, 1500, seed=1), records, prefix="r")
    settings = Settings(
        corpus=str(records),
        seeds=runs,
        steps=steps,
        batch_size=64,
        learning_rate=4e-3,
        max_length=48,
        threads=1,
        cache_dir=str(directory),
    )
    experiment = Experiment(settings, Store(directory))
    spec, ref = settings.arms()["baseline"], parse_metric(METRIC)
    rows = []
    for seed in range(runs):
        if seed % 10 == 0:
            progress(f"baseline {seed} of {runs}")
        rows.append(item_values(ref, experiment.scores(spec, seed, ref.metric.probe_set, ref.axis)))
    first = rows[0]
    return Pool(
        np.asarray([row.values for row in rows]), np.asarray((first.clusters, first.templates)), ref.metric.target
    )


def null_rows(pool: Pool, side: int = SIDE) -> list[Row]:
    """The pool split into two sides of `side` runs whose true amplification is zero, with nothing allowed.

    Disjoint splits share no run, so that their count is binomial; random ones share runs, and their shares, though they
    average over more, have no interval.
    """
    case = f"embedded model, {len(pool.values)} baselines, {side} against {side}"
    rows = []
    for name, splits in (("disjoint", _disjoint(len(pool.values), side)), ("random", _random(len(pool.values), side))):
        ours = Row(case, f"fairtest, {name} splits", str(side))
        bare = Row(case, f"candidate > baseline, {name} splits", str(side))
        for row in (ours, bare):
            row.independent = name == "disjoint"
        passes = []
        for candidate, reference in splits:
            interval = amplification_interval(
                pool.values[candidate], pool.values[reference], pool.clusters, pool.target
            )
            ours.unchanged.count(interval.low > 0.0)
            ours.covered.count(interval.low <= 0.0 <= interval.high)
            bare.unchanged.count(interval.estimate > 0.0)
            passes.append(interval.high <= ALLOWED)
        ours.note = f"PASS with {ALLOWED} allowed: {100 * np.mean(passes):.0f}%"
        rows += [ours, bare]
    return rows


def _disjoint(runs: int, side: int) -> Iterator[tuple[list[int], list[int]]]:
    for start in range(0, runs - 2 * side + 1, 2 * side):
        yield list(range(start, start + side)), list(range(start + side, start + 2 * side))


def _random(runs: int, side: int) -> Iterator[tuple[list[int], list[int]]]:
    rng = np.random.default_rng(0)
    for _ in range(SPLITS):
        drawn = [int(run) for run in rng.permutation(runs)[: 2 * side]]
        yield drawn[:side], drawn[side:]
