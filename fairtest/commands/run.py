"""`fairtest run [ARM ...]`: trains and scores arms into the store, from the settings of the project, without pytest."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fairtest.commands.project import counted, project_settings

if TYPE_CHECKING:
    from fairtest.experiments.arms import TunedArm
    from fairtest.experiments.experiment import Experiment
    from fairtest.experiments.progress import Progress
    from fairtest.metrics.metric import Metric
    from fairtest.probes.probe import ProbeSet

_COLUMNS = ("seed", "run", "seconds", "perplexity")
_PROBES = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<axis>[^\[\]]+)\])?")
_OWN_TRAINER = re.compile(r"^\s*def fairtest_trainer\b", re.MULTILINE)


@dataclass(frozen=True)
class _Wanted:
    """A probe set, or one axis of it, and the protocols by which its metrics read it."""

    probes: ProbeSet
    axis: str | None
    protocols: tuple[str, ...]

    def __str__(self) -> str:
        return self.probes.name if self.axis is None else f"{self.probes.name}[{self.axis}]"


@dataclass
class _Totals:
    trained: int = 0
    found: int = 0
    seconds: float = 0.0
    statements: list[str] = field(default_factory=list)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.description = (
        "Trains arms with the settings of the nearest pyproject.toml and keeps them in the store, where gate tests find"
        " them. What is there is not trained again, so an interrupted command goes on where it was."
    )
    parser.add_argument(
        "arms",
        nargs="*",
        metavar="ARM",
        help="pretrained, baseline, cda, dp, dp_cda (default: all of these), or what takes dp apart: clip_only,"
        " noise_only, shuffled, baseline_matched",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="train each arm with N seeds (default: the setting)")
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        metavar="PROBES[AXIS]",
        help="score each run too, for example on 'templates[gender]'; may be given several times",
    )
    parser.add_argument("--cache-dir", metavar="DIR", help="the store (default: that of the settings)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from fairtest.errors import SettingsError
    from fairtest.experiments.arms import Arms
    from fairtest.experiments.experiment import Experiment
    from fairtest.store import Store

    given = {"seeds": options.seeds, "cache_dir": options.cache_dir}
    settings, root = project_settings(command_line={name: value for name, value in given.items() if value is not None})
    if root is None:
        raise SettingsError(
            "no pyproject.toml here or above has a [tool.fairtest] table",
            where=str(Path.cwd()),
            fix="fairtest init writes one; or change to the directory of your project",
        )
    experiment = Experiment(settings, Store(Path(settings.cache_dir)), _bars())
    known = Arms(experiment)
    arms = [known[name] for name in dict.fromkeys(options.arms)] or list(known)
    wanted = [_wanted(experiment, text) for text in options.score]
    for line in (*_head(experiment, arms), *_warnings(root)):
        _say(line)
    totals = _Totals()
    width = max(len(arm.name) for arm in arms)
    _say(f"{'arm':<{width}}  {_COLUMNS[0]:>4}  {_COLUMNS[1]:<10}  {_COLUMNS[2]:>8}  {_COLUMNS[3]:>10}")
    for arm in arms:
        for line in _lines(experiment, arm, wanted, width, totals):
            _say(line)
    runs = counted(totals.trained + totals.found, "run")
    _say(f"{runs}: {totals.trained} trained ({totals.seconds:.0f} s), {totals.found} from the store")
    for text in (*([f"scored on {', '.join(map(str, wanted))}"] if wanted else []), *totals.statements):
        _say(text)
    return os.EX_OK


def _lines(
    experiment: Experiment, arm: TunedArm, wanted: Sequence[_Wanted], width: int, totals: _Totals
) -> Iterator[str]:
    """A line a run, as each is there."""
    from fairtest.metrics.perplexity import perplexity

    if wanted and arm.tuned:
        first = wanted[0]
        experiment.prepare(arm.spec, arm.seeds, first.probes.name, first.axis, first.protocols[0])
    else:
        experiment.prepare(arm.spec, arm.seeds)
    for seed in arm.seeds:
        experiment.training_record(arm.spec, seed)
        held_out = experiment.held_out(arm.spec, [seed])
        for one in wanted:
            for protocol in one.protocols:
                experiment.scores(arm.spec, seed, one.probes.name, one.axis, protocol)
        judged = f"{perplexity(held_out.nll[0], held_out.tokens):>10.3f}"
        if not arm.tuned:
            yield f"{arm.name:<{width}}  {'-':>4}  {'as it is':<10}  {'-':>8}  {judged}"
            continue
        seconds = experiment.ledger[experiment.run_digest(arm.spec, seed)]["seconds"]
        totals.trained += seconds is not None
        totals.found += seconds is None
        totals.seconds += seconds or 0.0
        made = "from store" if seconds is None else "trained"
        took = "-" if seconds is None else f"{seconds:.1f}"
        yield f"{arm.name:<{width}}  {seed:>4}  {made:<10}  {took:>8}  {judged}"
    statement = arm.statement()
    if statement is not None:
        totals.statements.append(f"{arm.name}: {statement.summary()}")


def _head(experiment: Experiment, arms: Sequence[TunedArm]) -> Iterator[str]:
    """What is about to be done, and how long that takes."""
    from fairtest.gates.planning.basis import Stored
    from fairtest.gates.planning.table import duration
    from fairtest.gates.planning.times import Times

    about = experiment.describe()
    yield (
        f"{about['model']} on {about['corpus']}: {counted(about['training_units'], 'unit')} to train on"
        f" ({about['unit']}), {about['held_out_units']:,} held out"
    )
    stored = Stored(experiment).runs
    times = Times(experiment, stored)
    total, missing, seconds = 0, 0, 0.0
    for arm in arms:
        here = [seed for seed in arm.seeds if arm.tuned and experiment.run_digest(arm.spec, seed) not in stored]
        total += len(arm.seeds) if arm.tuned else 0
        missing += len(here)
        if here:
            each, _ = times.seconds(arm.spec)
            seconds += math.nan if each is None else each * math.ceil(len(here) / experiment.settings.workers)
    head = f"{counted(total, 'run')}: {total - missing} in the store, {missing} to train"
    yield f"{head}, about {duration(seconds)}" if missing and math.isfinite(seconds) else head


def _wanted(experiment: Experiment, text: str) -> _Wanted:
    """What --score names; a wrong name is told before anything is trained."""
    from fairtest.errors import ProbeError
    from fairtest.experiments.experiment import PROTOCOL
    from fairtest.experiments.model_scorer import CAUSAL
    from fairtest.metrics.registry import metrics_of
    from fairtest.scoring.generation_protocols import GENERATION

    written = _PROBES.fullmatch(text.strip())
    if written is None:
        raise ProbeError(
            f"{text!r} does not name a probe set",
            where="--score",
            fix="write PROBES or PROBES[AXIS]: templates[gender]",
        )
    axis = written["axis"]
    probes = experiment.probe_set(written["name"])
    if axis is not None:
        probes.only(axis)
    metrics = metrics_of(probes.name)
    protocols = {metric.scoring_protocol or PROTOCOL for metric in metrics if metric.scoring == CAUSAL}
    generated = [metric for metric in metrics if metric.scoring == GENERATION and metric.scoring_protocol]
    if generated:
        found, axis = _generated(generated, axis)
        protocols |= found
    if metrics and not protocols:
        raise ProbeError(
            f"no metric of probe set {probes.name!r} reads scores of a causal model, which arms are",
            where="--score",
            fix="name another probe set: templates, stereoset, crows_pairs, ...",
        )
    protocols = protocols or {PROTOCOL}
    return _Wanted(probes, axis, tuple(sorted(protocols, key=lambda name: (name != PROTOCOL, name))))


def _generated(metrics: Sequence[Metric], axis: str | None) -> tuple[set[str], str | None]:
    """The protocols of metrics of what a model writes, and the axis that they read where none was named. Toxicity is
    left out where nothing says what it is here.

    Raises:
        MetricError: a metric that does not read this axis, or whose scorer of texts is not there.
    """
    from fairtest.metrics.registry import parse_metric
    from fairtest.scoring.generation_protocols import parse_generation
    from fairtest.scoring.text_scorers import TOXICITY, has_toxicity, resolve_scorer

    scorers = {metric.scoring_protocol: parse_generation(metric.scoring_protocol).scorer for metric in metrics}
    if not has_toxicity() and set(scorers.values()) != {TOXICITY}:
        scorers = {protocol: scorer for protocol, scorer in scorers.items() if scorer != TOXICITY}
    for scorer in scorers.values():
        resolve_scorer(scorer)
    axes = {parse_metric(metric.name if axis is None else f"{metric.name}[{axis}]").axis for metric in metrics}
    return set(scorers), axes.pop() if len(axes) == 1 else axis


def _warnings(root: Path) -> Iterator[str]:
    for path in (root / "conftest.py", root / "tests" / "conftest.py"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if _OWN_TRAINER.search(path.read_text(encoding="utf-8")):
                yield (
                    f"note: {path.name} has a fixture fairtest_trainer, which only pytest uses: these runs are trained"
                    " by the built-in trainer, and the gate tests will not find them"
                )


def _bars() -> Progress:
    """Bars on a terminal; the lines of finished work are those of the table."""
    from fairtest.experiments.progress import Advance, Progress

    class Bars(Progress):
        """Nothing stays of a bar but what was interrupted."""

        @contextlib.contextmanager
        def work(self, label: str, total: int, unit: str = "step", *, minor: bool = False) -> Iterator[Advance]:
            del minor
            with super().work(label, total, unit, minor=True) as advance:
                yield advance

    return Bars(lambda: sys.stderr, quiet_seconds=math.inf)


def _say(line: str) -> None:
    from fairtest.commands.table import wrapped

    sys.stdout.write("\n".join([line] if "  " in line else wrapped(line)) + "\n")
    sys.stdout.flush()
