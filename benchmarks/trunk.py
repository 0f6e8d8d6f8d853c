"""What it saves to run frozen lower layers once per text, in a training step and in the scoring of a probe set.

    python benchmarks/trunk.py                        two models of 8 layers (some minutes on two cores)
    python benchmarks/trunk.py --quick                a toy size, to see that it works (within a minute)
    python benchmarks/trunk.py --model smollm2-135m   adapters on the top four layers of SmolLM2-135M (slow)
    python benchmarks/trunk.py --json FILE            the rows as JSON too

How to read it. The reference, ratio 1, is the plain way: all layers run each time. Each other way is timed right after
(or, every other round, right before) the reference, and the ratio is the median over these pairs, with the smallest and
the largest beside it. "first time" has everything to compute, and for probes to write into a store; "in memory" and
"in the store" find all outputs of frozen layers, the latter in memory-mapped files. For probes "in the store" opens and
checks the files each time, as a new process does. A step is that of a private run: forward, backward, clipping, noise,
optimizer; the store's files are opened once, as in a run of many steps. "fill the store" is the whole corpus, as a
multiple of one plain step: what the first run pays before its first step.

A wrong way must not look fast: "error" is the largest difference of a log-probability (of a batch's tokens, or of a
probe's text) from the plain way, over its size or 1, whichever is more; above 1e-6 the benchmark fails. Peak memory is
that of a process of its own, less what there was before the model was built; mapped files count as far as they were
read.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
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
from _trunk_cases import Case, cases

from fairtest.errors import ModelError
from fairtest.scoring.likelihood import score_texts
from fairtest.store import Store
from fairtest.training.encoding import EncodedUnit, MicroBatch
from fairtest.training.forward import CausalForward
from fairtest.training.models import LoadedModel
from fairtest.training.steps import NoiseSpec, Steps
from fairtest.training.trunk import TrunkCache, split_trunk

LARGEST_ERROR = 1e-6
PLAIN, FIRST, MEMORY, STORE, FILL = "plain", "first time", "in memory", "in the store", "fill the store"
PARTS = ("step", "probes")


class Bench:
    """One model with the ways of a part: `ways` are calls by name, each what is timed; `answers` their results."""

    def __init__(self, case: Case, part: str, folder: Path) -> None:
        self.loaded = case.build()
        self.case, self.part, self.folder = case, part, folder
        self.units = case.units(self.loaded)
        self.texts = case.texts()
        self._stores = 0
        self._memory = TrunkCache()

    def call(self, way: str) -> Callable[[], None]:
        """What is timed. Everything that this way finds is made before."""
        if way == FILL:
            return lambda: self._warm_corpus(self._new_cache(stored=True))
        if self.part == "step":
            return self._step_call(way)
        return functools.partial(self._score, way)

    def prepare(self, way: str) -> None:
        """Makes what a way finds."""
        if way in (MEMORY, STORE):
            if self.part == "step":
                self._log_probs(self._kept(way))
            else:
                self._scores(self._kept(way))
        if way == STORE and not any(Store(self.folder / "kept").entries("trunk")):
            raise RuntimeError("nothing was stored: the case is too small")

    def answer(self, way: str) -> torch.Tensor:
        """Log-probabilities by this way, in double precision."""
        if self.part == "probes":
            return torch.tensor(self._scores(self._cache(way)), dtype=torch.float64)
        return self._log_probs(self._cache(way)).double()

    # -- caches ---------------------------------------------------------------------------------------------------

    def _cache(self, way: str) -> TrunkCache | None:
        if way == PLAIN:
            return None
        if way == FIRST:
            return self._new_cache(stored=self.part == "probes")
        return self._kept(way)

    def _kept(self, way: str) -> TrunkCache:
        if way == STORE:  # opened again: a new process finds files, not tensors
            return TrunkCache(max_bytes=0, store=Store(self.folder / "kept"))
        return self._memory

    def _new_cache(self, *, stored: bool) -> TrunkCache:
        self._stores += 1
        return TrunkCache(store=Store(self.folder / f"new-{self._stores}") if stored else None)

    @contextlib.contextmanager
    def _using(self, cache: TrunkCache | None) -> Iterator[LoadedModel]:
        self.loaded.trunk = None if cache is None else split_trunk(self.loaded, cache)
        if cache is not None and self.loaded.trunk is None:
            raise RuntimeError(f"{self.case.name} has no trunk")
        try:
            yield self.loaded
        finally:
            self.loaded.trunk = None

    # -- what is done ---------------------------------------------------------------------------------------------

    def _warm_corpus(self, cache: TrunkCache) -> None:
        with self._using(cache) as loaded:
            CausalForward(loaded).warm(unit.rows[0] for unit in self.units)

    def _log_probs(self, cache: TrunkCache | None) -> torch.Tensor:
        """Of the batch, from a store that holds the whole corpus."""
        if cache is not None:
            self._warm_corpus(cache)
        with self._using(cache) as loaded, torch.no_grad():
            return CausalForward(loaded).token_log_probs(MicroBatch.of(self._batch).tokens)

    @property
    def _batch(self) -> list[EncodedUnit]:
        return self.units[: self.case.training.batch_size]

    def _step_call(self, way: str) -> Callable[[], None]:
        cache = self._cache(way)
        if cache is not None and way == STORE:
            self._warm_corpus(cache)
        with self._using(cache) as loaded:
            scorer = CausalForward(loaded)
        steps = Steps(
            model=self.loaded.model,
            scorer=scorer,
            training=self.case.training,
            noise=NoiseSpec(noise_multiplier=1.0, max_grad_norm=1.0),
            expected_batch_size=self.case.training.batch_size,
            seed=0,
        )
        steps.take(self._batch)  # the first step makes the optimizer's state and compares the engine with autograd

        def step() -> None:
            if way == FIRST and cache is not None:  # nothing is known of the batch
                for rows in cache._states.values():  # noqa: SLF001
                    rows.clear()
                cache.bytes = 0
            steps.take(self._batch)

        return step

    def _score(self, way: str) -> None:
        self._scores(self._cache(way))

    def _scores(self, cache: TrunkCache | None) -> list[float]:
        with self._using(cache) as loaded:
            return [score.log_prob for score in score_texts(loaded, self.texts)]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    set_threads(options.threads)
    rounds = options.rounds or (3 if options.quick else 7)
    rows: list[Row] = []
    try:
        for case in cases(quick=options.quick, smollm2=options.model is not None):
            for part in PARTS:
                rows += measure(case, part, rounds, options)
            if options.json:  # after each case: a long run that is stopped keeps what it has
                write_json(rows, options.json)
    except ModelError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return 1
    settings = f"{rounds} paired rounds; ratio: median (smallest-largest)"
    print_table(rows, ["Frozen layers run once, against all layers each time", machine(options.threads), settings, ""])
    wrong = [row for row in rows if row.error is not None and not row.error <= LARGEST_ERROR]
    for row in wrong:
        print(f"wrong: {row.method} differs by {row.error:.1e} in case {row.case}", file=sys.stderr)
    return 1 if wrong else 0


def measure(case: Case, part: str, rounds: int, options: argparse.Namespace) -> list[Row]:
    """The rows of a part, the reference first."""
    name = f"{case.name}: {part}"
    ways = [FIRST, MEMORY, STORE, *([FILL] if part == "step" else [])]
    reference = Row(name, PLAIN)
    rows = [reference, *(Row(name, way) for way in ways)]
    with tempfile.TemporaryDirectory(prefix="fairtest-benchmark-") as folder:
        bench = Bench(case, part, Path(folder))
        expected = bench.answer(PLAIN)
        plain = bench.call(PLAIN)
        plain()
        seen: list[float] = []
        for row in rows[1:]:
            bench.prepare(row.method)
            if row.method != FILL:
                # Steps change weights by some 1e-5, so answers are compared with those of now.
                expected = bench.answer(PLAIN)
                row.error = _difference(bench.answer(row.method), expected)
            call = bench.call(row.method)
            call()
            pairs = paired(plain, call, rounds)
            fill_times(row, pairs)
            seen += [first for first, _ in pairs]
            progress(f"{name}: {row.method}: {row.ratio:.2f} ({row.low:.2f}-{row.high:.2f})")
        fill_times(reference, [(seconds, seconds) for seconds in seen or [seconds_of(plain)]])
    del bench
    gc.collect()
    if not options.no_memory:
        for row in rows:
            progress(f"{name}: memory of {row.method}")
            row.peak_mib = peak_mib(peak_of, case, part, row.method, options.threads)
            if row.peak_mib and reference.peak_mib:
                row.memory_ratio = row.peak_mib / reference.peak_mib
    return rows


def peak_of(case: Case, part: str, way: str, threads: int) -> float:
    """Peak resident MiB of two calls, less what there was before the model."""
    set_threads(threads)
    with tempfile.TemporaryDirectory(prefix="fairtest-benchmark-") as folder:
        before = resident_mib()
        bench = Bench(case, part, Path(folder))
        bench.prepare(way)
        gc.collect()
        forget_peak()
        call = bench.call(way)
        call()
        call()
        return recorded_peak_mib() - before


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).abs() / expected.abs().clamp_min(1.0)).max())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a toy size and three rounds, within a minute")
    parser.add_argument("--model", choices=["smollm2-135m"], help="this model instead of the random ones")
    parser.add_argument("--rounds", type=int, help="pairs for each way (7, or 3 with --quick)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (2)")
    parser.add_argument("--no-memory", action="store_true", help="times only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
