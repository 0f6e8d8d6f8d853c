"""How fast texts are scored, how much memory that takes, and whether other programs come to the same scores.

    python benchmarks/scoring.py                 all tables (some twenty-five minutes on one quiet core)
    python benchmarks/scoring.py --quick         toy models and 60 pairs, to see that it works (within half a minute)
    python benchmarks/scoring.py --parts causal  the causal models only
    python benchmarks/scoring.py --json FILE     the rows as JSON too

The texts are those of CrowS-Pairs, the models a GPT-2 and a BERT with six layers of width 384, 50,257 ids and random
weights; their tokenizers are trained on novels and WikiText-2 before anything is timed. All of it is read from
FAIRTEST_DATA_DIR (../shared/data). Compared with

- causal: lm-eval's HFLM (the request of its CrowS-Pairs task, in batches of 16 and of the size that it finds itself,
  whose search counts; and its rolling one), minicons' IncrementalLMScorer in batches of 16, and a loop that scores one
  text at a time. Rolling with the batch size "auto" is not here: it first tries 64 rows of all 1024 positions of the
  model, whose logits are 13 GB;
- masked: the loop of Nangia et al. over the tokens that both sentences share (mlm-unmodified), and, over all tokens
  (mlm-pll), such a loop and minicons' MaskedLMScorer. Loops run one pass for each token: all this is on some pairs at
  even distances (--masked-pairs), and the part masked-all is fairtest alone on all pairs, once.

lm-eval and minicons are optional, never needed by fairtest: requirements-scoring.txt says how to install them.

How to read it. Seconds are from texts to scores, tokenizing included, loading not, on one thread unless --threads says
otherwise. The reference, ratio 1, is fairtest, which runs before the first method and again after each one: a method's
time is divided by that of the run right before it and by that of the run right after, and its ratio, the median over
the rounds with the smallest and the largest beside it, says how many times as long it takes. One round (--rounds) of
all pairs is long, and the slow methods do not allow many; every other round goes through the methods in reverse. Where
other programs keep the cores busy, --clock cpu counts processor time instead. "largest error" is the largest difference
in log-likelihood of a text from the loop's, "decisions" whether the likelier text of each pair is the same; an error of
1e-3 or another decision fails the benchmark. Peak memory is that of a process of its own which scores once: the largest
resident size, less the size when model, tokenizer and library were loaded.

"of limit" is the share of fairtest's time that no program can save. Causal: each distinct beginning of a text goes once
through all layers, and once through the head. Masked: each distinct masked row goes through the layers, but the last
one, like the head, at the mask only (its keys and values at all tokens), and the first layer's queries, keys and values
are computed once for each distinct token at a place. These operations are divided by the rate of torch's matrix product
at the same sizes, measured anew beside each run; looking up, softmax, norms, activations and the log-sum-exp count as
nothing.

The part memory scores all pairs, and ten times as many other texts of the same length, with narrow models of the full
vocabulary; there "peak MiB" includes the pairs, whose own size is in the note, and ratios are of memory.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before anything that reads it is imported; --threads is set in torch later

import argparse
import dataclasses
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from _measure import forget_peak, peak_mib, progress, recorded_peak_mib, resident_mib
from _scoring_limit import Clock, Work, causal_work
from _scoring_masked import PROTOCOLS, masked_work
from _scoring_methods import FAIRTEST, LOOP, METHODS, Method, Score, missing
from _scoring_models import FULL, QUICK, Shape, bert, crows_pairs, data_dir, every, gpt2, repeated, tokenizer_folder
from _scoring_rows import Row, compare, fill_times, machine, print_table, write_json

from fairtest.probes.probe import ProbeSet
from fairtest.scoring.masked_protocols import MLM_UNMODIFIED
from fairtest.training.models import LoadedModel

CAUSAL = "causal"
PARTS = (CAUSAL, "masked", "masked-all", "memory")
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
QUICK_PAIRS = 60
QUICK_MASKED_PAIRS = 8
TIMES = 10
NARROW = 64


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a process needs to know to build the same model and the same pairs again."""

    folder: Path
    shape: Shape
    threads: int
    protocol: str = CAUSAL
    pairs: int | None = None
    spread: int | None = None
    times: int = 1

    @property
    def methods(self) -> Mapping[str, tuple[str, Method]]:
        """By name: the module that must be there, and the method."""
        return METHODS if self.protocol == CAUSAL else PROTOCOLS[self.protocol]

    @property
    def model(self) -> str:
        """The name of the model."""
        return "GPT-2" if self.protocol == CAUSAL else f"BERT, {self.protocol}"

    def loaded(self) -> LoadedModel:
        """The model of the protocol."""
        return (gpt2 if self.protocol == CAUSAL else bert)(self.folder, self.shape)

    def probes(self) -> ProbeSet:
        """The first `pairs`, of them `spread` at even distances, in `times` forms."""
        found = crows_pairs(self.pairs)
        found = found if self.spread is None else every(found, self.spread)
        return found if self.times == 1 else repeated(found, self.times)

    def work(self, loaded: LoadedModel, probes: ProbeSet) -> Work:
        """What cannot be left out."""
        return causal_work(loaded, probes) if self.protocol == CAUSAL else masked_work(loaded, probes, self.protocol)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    use_threads(options.threads)
    if not data_dir().is_dir():
        print(f"the data directory {data_dir()} is absent: set FAIRTEST_DATA_DIR", file=sys.stderr)
        return 2
    rounds = options.rounds
    spread = options.masked_pairs or (QUICK_MASKED_PAIRS if options.quick else 50)
    progress("training tokenizers")
    shape = QUICK if options.quick else FULL
    pairs = options.pairs or (QUICK_PAIRS if options.quick else None)
    base = Setting(tokenizer_folder(shape), shape, options.threads, pairs=pairs)
    clock = CLOCKS[options.clock]
    rows: list[Row] = []
    for part in options.parts:
        if part == CAUSAL:
            rows += compared(base, options.methods, rounds, clock, memory=not options.no_memory)
        elif part == "masked":
            for protocol in PROTOCOLS:
                setting = dataclasses.replace(base, protocol=protocol, spread=spread)
                rows += compared(setting, options.methods, rounds, clock, memory=not options.no_memory)
        elif part == "masked-all":
            rows.append(alone(dataclasses.replace(base, protocol=MLM_UNMODIFIED), clock))
        else:
            for protocol in (CAUSAL, MLM_UNMODIFIED):
                rows += memory_rows(dataclasses.replace(base, protocol=protocol))
        if options.json:  # after each part: a long run that is stopped keeps what it has
            write_json(rows, options.json)
    settings = f"rounds: {rounds}; {options.clock} time; ratio: median (smallest-largest) of time over {FAIRTEST}'s"
    print_table(rows, ["Scoring pairs of texts: time, memory, agreement", machine(options.threads), settings, ""])
    wrong = [row for row in rows if row.wrong]
    for row in wrong:
        print(f"wrong: {row.method} differs in case {row.case}", file=sys.stderr)
    return 1 if wrong else 0


def compared(setting: Setting, names: Sequence[str] | None, rounds: int, clock: Clock, *, memory: bool) -> list[Row]:
    """A row for each method, fairtest's first; it and the loop, which says what is right, are always there."""
    probes, loaded = setting.probes(), setting.loaded()
    case = f"{setting.model}, {len(probes.probes)} pairs"
    chosen = [name for name in setting.methods if name in {*(names or setting.methods), FAIRTEST, LOOP}]
    rows = {name: Row(case, name, note=missing(setting.methods[name][0])) for name in chosen}
    present = {name: setting.methods[name][1](loaded, probes) for name, row in rows.items() if not row.note}
    work = setting.work(loaded, probes)
    fill_all(rows, present, rounds, clock, lambda: work.seconds(clock))
    if memory:
        for name in present:
            progress(f"{case}: memory of {name}")
            rows[name].peak_mib = peak_mib(peak_of, setting, name)
    return list(rows.values())


def fill_all(
    rows: Mapping[str, Row], present: Mapping[str, Score], rounds: int, clock: Clock, least: Callable[[], float]
) -> None:
    """Seconds, ratios, errors; fairtest is timed before and after each method, the machine's rate beside fairtest."""
    own: list[float] = []
    shares: list[float] = []
    found: dict[str, list[float]] = {}

    def timed(name: str) -> float:
        began = clock()
        found[name] = present[name]()
        spent = clock() - began
        progress(f"{rows[name].case}: {name}: {spent:.2f} s")
        return spent

    def reference() -> float:
        own.append(timed(FAIRTEST))
        shares.append(least() / own[-1])
        return own[-1]

    others = [name for name in present if name != FAIRTEST]
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in others}
    before = reference()
    for turn in range(rounds):
        for name in others[::-1] if turn % 2 else others:
            other = timed(name)
            after = reference()
            pairs[name] += [(before, other), (after, other)]
            before = after
    for name in others:
        fill_times(rows[name], pairs[name])
    fill_times(rows[FAIRTEST], [(seconds, seconds) for seconds in own])
    rows[FAIRTEST].of_limit = statistics.median(shares)
    for name in present:
        compare(rows[name], found[name], found[LOOP])


def alone(setting: Setting, clock: Clock) -> Row:
    """fairtest once, with nothing beside it."""
    probes, loaded = setting.probes(), setting.loaded()
    row = Row(f"{setting.model}, {len(probes.probes)} pairs", FAIRTEST, ratio=1.0, note="once, nothing beside it")
    score, work = setting.methods[FAIRTEST][1](loaded, probes), setting.work(loaded, probes)
    before = work.seconds(clock)
    began = clock()
    score()
    row.seconds = clock() - began
    row.of_limit = (before + work.seconds(clock)) / 2 / row.seconds
    progress(f"{row.case}: {row.method}: {row.seconds:.2f} s")
    return row


def memory_rows(setting: Setting) -> list[Row]:
    """fairtest's peak with the pairs and with ten times as many: it may grow by the pairs."""
    narrow = dataclasses.replace(setting.shape, layers=2, width=NARROW, heads=2)
    rows = []
    for times in (1, TIMES):
        many = dataclasses.replace(setting, shape=narrow, times=times)
        row = Row(f"memory, {setting.model}", f"{len(many.probes().probes)} pairs")
        progress(f"{row.case}: {row.method}")
        row.peak_mib = peak_mib(peak_with_pairs, many)
        row.note = f"the pairs themselves: {size_of_pairs(many):.1f} MiB"
        rows.append(row)
    for row in rows:
        row.ratio = row.peak_mib / rows[0].peak_mib if row.peak_mib and rows[0].peak_mib else None
    return rows


def peak_of(setting: Setting, name: str) -> float:
    """MiB that scoring once takes beyond model, library and texts, in a process of its own."""
    use_threads(setting.threads)
    score = setting.methods[name][1](setting.loaded(), setting.probes())
    gc.collect()
    before = resident_mib()
    forget_peak()
    score()
    return recorded_peak_mib() - before


def peak_with_pairs(setting: Setting) -> float:
    """MiB that reading the pairs and scoring them once takes beyond the model."""
    use_threads(setting.threads)
    loaded = setting.loaded()
    gc.collect()
    before = resident_mib()
    forget_peak()
    setting.methods[FAIRTEST][1](loaded, setting.probes())()
    return recorded_peak_mib() - before


def size_of_pairs(setting: Setting) -> float:
    """MiB of the pairs alone, by Python's own account."""
    tracemalloc.start()
    probes = setting.probes()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    return held if probes.probes else 0.0


def use_threads(threads: int) -> None:
    """The threads that torch and the tokenizers compute with, in this process."""
    torch.set_num_threads(threads)
    os.environ["RAYON_NUM_THREADS"] = str(threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    known = list(dict.fromkeys(name for each in (METHODS, *PROTOCOLS.values()) for name in each))
    parser.add_argument("--quick", action="store_true", help="toy models, 60 pairs, within half a minute")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--methods", nargs="+", choices=known, metavar="METHOD", help=f"of: {'; '.join(known)}")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of timing (1)")
    parser.add_argument("--pairs", type=int, help="the first so many pairs (all 1508, or 60 with --quick)")
    parser.add_argument("--masked-pairs", type=int, help="pairs of the part masked (50, or 8 with --quick)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch and of the tokenizers (1)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what seconds are (wall)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the column of peak memory")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
