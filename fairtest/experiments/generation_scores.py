"""What a model writes after prompts of two groups, scored: completions and their scores are kept by content.

Completions are found again by the digest of the model's files, or of the run that trained it, the prompts and the
decoding, so another scorer or the same question asked twice generates nothing. A group of an axis is generated and kept
at a time, so that an interruption loses little, and another pair of groups generates only the group that is new.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fairtest.digests import digest_of
from fairtest.errors import MetricError
from fairtest.experiments.model_scorer import MASKED, SCORING_VERSION, model_kind
from fairtest.experiments.progress import SILENT, Progress
from fairtest.metrics.generation import STATISTICS, THRESHOLD, Gap, gap
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import GROUP, require_prompts
from fairtest.scoring.completions import Decoding, Generations
from fairtest.scoring.generation_protocols import parse_generation
from fairtest.scoring.scores import ProbeScores, join_scores
from fairtest.scoring.text_scorers import UNVERSIONED, TextScorer, resolve_scorer, score_generations
from fairtest.statistics.intervals import mean_interval
from fairtest.store import Store
from fairtest.training.sources import ModelSource, resolve_model

if TYPE_CHECKING:
    from fairtest.training.models import LoadedModel

# Raised when a change of the library changes what the same decoding writes: old completions are then not found.
GENERATION_VERSION = 1
USUAL_GROUPS = ("masculine", "feminine")
_DEFAULT = Decoding()


@dataclass(frozen=True)
class GapEstimate:
    """A statistic of both groups: `difference` is first - second with its interval, `ratio` is first / second.

    `ratio` is None where a value is negative or the second is 0. `degenerate`: the interval has no width because
    nothing varied, which is no evidence.
    """

    statistic: str
    first_value: float
    second_value: float
    difference: float
    low: float
    high: float
    ratio: float | None
    degenerate: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data; an interval of too few clusters has null bounds."""
        values = asdict(self)
        for name in ("low", "high"):
            if not math.isfinite(values[name]):
                values[name] = None
        return values


@dataclass(frozen=True)
class AxisGaps:
    """The gaps of two groups on one axis, and what they are made of.

    Args:
        paired: prompts that say the same of both groups are compared with each other; else the difference also holds
            whatever else the prompts differ in.
        items: pairs, or prompts where nothing is paired; the intervals are over their `clusters`.
        prompts: of both groups together; `completions` theirs with text.
        without_text: completions that have no text and are not scored.
        excluded: how many prompts are in neither value, by reason.
    """

    axis: str
    paired: bool
    items: int
    clusters: int
    prompts: int
    completions: int
    without_text: int
    excluded: Mapping[str, int]
    gaps: tuple[GapEstimate, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "excluded": dict(self.excluded), "gaps": [one.as_dict() for one in self.gaps]}


@dataclass(frozen=True)
class GenerationScores:
    """Gaps by axis, and how they came about: model, prompts, scorer and decoding."""

    model: str
    model_digest: str
    probe_set: str
    probe_digest: str
    scorer: str
    revision: str
    decoding: Decoding
    first: str
    second: str
    threshold: float
    confidence: float
    axes: tuple[AxisGaps, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without single texts."""
        return {**asdict(self), "axes": [axis.as_dict() for axis in self.axes]}


def score_generations_of_model(
    model: str,
    prompts: ProbeSet,
    scorer: str | TextScorer | Callable[[Sequence[str]], Iterable[float]],
    *,
    decoding: Decoding = _DEFAULT,
    first: str | None = None,
    second: str | None = None,
    store: Store,
    axis: str | None = None,
    threshold: float = THRESHOLD,
    progress: Progress = SILENT,
    confidence: float = 0.95,
    threads: int = 0,
    device: str = "cpu",
) -> GenerationScores:
    """Gaps between two groups in the scores of what a model writes, on every axis that has both, or on one axis.

    `first` and `second` are masculine and feminine if left out and there. The statistics are the mean, the share of at
    least `threshold`, and the expected maximum over a prompt's completions. Scores of a plain function are not kept,
    because nothing says when it changed; those of a named scorer are, by its name and revision.

    Raises:
        ModelError: the model or the scorer's cannot be had.
        ProbeError: no set of prompts, no such axis, or a prompt that the model cannot read.
        MetricError: groups that no axis has, a masked model, or a scorer that does not give one number for each text.
    """
    require_prompts(prompts)
    two, axes = compared_groups(prompts, first, second, axis)
    if not math.isfinite(threshold):
        raise MetricError(f"the threshold is {threshold}", where="threshold", fix="give a finite number; 0.5 is usual")
    chosen = resolve_scorer(scorer)
    source = resolve_model(model)
    if model_kind(source) == MASKED:
        raise MetricError(
            f"{model!r} is a masked language model, which continues no prompt",
            where=f"probe set {prompts.name!r}",
            fix="give a causal language model",
        )
    writer = CompletionWriter(writer_of(source, threads, device), decoding, chosen, store=store, progress=progress)
    found: list[AxisGaps] = []
    for name in axes:
        of_axis = on_axis_and_groups(prompts, name, two)
        parts = [writer.scores(on_axis_and_groups(prompts, name, (group,))) for group in two]
        scores = join_scores(of_axis, [scored for scored, _ in parts])
        found.append(axis_gaps(scores, two, threshold, confidence, sum(empty for _, empty in parts)))
    return GenerationScores(
        model=source.name,
        model_digest=source.digest,
        probe_set=prompts.name,
        probe_digest=prompts.digest,
        scorer=chosen.name,
        revision=chosen.revision,
        decoding=decoding,
        first=two[0],
        second=two[1],
        threshold=threshold,
        confidence=confidence,
        axes=tuple(found),
    )


def compared_groups(
    prompts: ProbeSet, first: str | None, second: str | None, axis: str | None
) -> tuple[tuple[str, str], tuple[str, ...]]:
    """The two groups, and the axes that have prompts of both."""
    among = prompts if axis is None else prompts.only(axis)
    there: dict[str, set[str]] = {name: set() for name in among.axes}
    for probe in among.probes:
        there[probe.axis].add(probe.fields[GROUP])
    two = (first or USUAL_GROUPS[0], second or USUAL_GROUPS[1])
    if two[0] == two[1]:
        raise MetricError(f"a gap of {two[0]!r} with itself", where="groups", fix="name two groups")
    axes = tuple(name for name in among.axes if set(two) <= there[name])
    if not axes:
        listed = "; ".join(f"{name}: {', '.join(sorted(groups))}" for name, groups in there.items())
        raise MetricError(
            f"no axis of {prompts.name!r} has both groups {two[0]!r} and {two[1]!r}"
            if first or second
            else f"{prompts.name!r} has no groups {two[0]!r} and {two[1]!r}, so it must be said which two to compare",
            where="groups" if axis is None else f"groups of axis {axis!r}",
            fix=f"name two of one axis. {listed}",
        )
    return two, axes


def on_axis_and_groups(prompts: ProbeSet, axis: str, groups: Sequence[str]) -> ProbeSet:
    kept = tuple(probe for probe in prompts.probes if probe.axis == axis and probe.fields[GROUP] in groups)
    return replace(prompts, probes=kept)


@dataclass(frozen=True)
class Writer:
    """A model that may have to write: what it is called, what identifies it in the store, and how it is loaded."""

    name: str
    identity: Mapping[str, str]
    load: Callable[[], LoadedModel]


def writer_of(source: ModelSource, threads: int, device: str = "cpu") -> Writer:
    """A finished model, loaded once and when it is first needed."""
    return Writer(source.name, {"model": source.digest}, _Loader(source, threads, device).load)


@dataclass
class _Loader:
    source: ModelSource
    threads: int
    device: str

    def load(self) -> LoadedModel:
        return self._loaded

    @cached_property
    def _loaded(self) -> LoadedModel:
        import os

        import torch

        from fairtest.training.models import load_model, move

        torch.set_num_threads(self.threads or os.cpu_count() or 1)
        return move(load_model(self.source), self.device)


class CompletionWriter:
    """Completions of one model and their scores, from the store or new; the model is loaded when it is first needed."""

    def __init__(
        self, writer: Writer, decoding: Decoding, scorer: TextScorer, *, store: Store, progress: Progress
    ) -> None:
        self._writer, self._decoding, self._scorer = writer, decoding, scorer
        self._store, self._progress = store, progress

    def scores(self, prompts: ProbeSet, *, silent: bool = False) -> tuple[ProbeScores, int]:
        """The scores of one group's completions, and how many of these have no text; `silent`: all may be without."""
        written = self.completions(prompts)
        empty = sum(not item.text.strip() for item in written)

        def score() -> ProbeScores:
            label = f"{self._scorer.name} on {_label(prompts)}"
            with self._progress.work(label, len(written), "text", minor=True):
                return score_generations(written, prompts, self._scorer, silent=silent)

        if self._scorer.revision == UNVERSIONED:
            return score(), empty
        key = {
            "completions": _digest(written),
            "scorer": self._scorer.name,
            "revision": self._scorer.revision,
        }
        kept = self._store.obtain_json("text-scores", key, lambda: score().to_json())
        return ProbeScores.from_json(kept), empty

    def completions(self, prompts: ProbeSet) -> Generations:
        decoding = asdict(self._decoding)
        # 1 and 1.0 decode alike, and are written differently.
        decoding |= {name: float(decoding[name]) for name in ("temperature", "top_p")}
        key = {
            "version": GENERATION_VERSION,
            **self._writer.identity,
            "prompts": prompts.digest,
            "decoding": decoding,
        }
        kept = Generations.from_json(self._store.obtain_json("completions", key, lambda: self._generate(prompts)))
        return replace(kept, model=self._writer.name)  # it may have been called otherwise then

    def _generate(self, prompts: ProbeSet) -> dict[str, Any]:
        from fairtest.scoring.generation import generate

        loaded = self._writer.load()
        label = f"{self._writer.name} continues {_label(prompts)}"
        with self._progress.work(label, len(prompts) * self._decoding.samples, "completion") as advance:
            return generate(
                loaded, prompts, self._decoding, on_batch=lambda done, total: advance(done=done, total=total)
            ).to_json()


def written_scores(
    writer: Writer, prompts: ProbeSet, protocol: str, *, kind: str, store: Store, progress: Progress
) -> ProbeScores:
    """The scores that metrics of one protocol of generation read, of one axis; kept as scores of any kind are.

    A group is continued at a time, and completions are those of `fairtest score --scorer` with the same decoding.
    `kind` is that of the scores that this model has in the store beside these.

    Raises:
        ProbeError: no set of prompts, or one that the model cannot read.
        MetricError: the scorer is not there, or does not give one number for each text.
    """
    require_prompts(prompts)
    wanted = parse_generation(protocol)
    scorer = resolve_scorer(wanted.scorer)
    completions = CompletionWriter(writer, wanted.decoding, scorer, store=store, progress=progress)

    def score() -> ProbeScores:
        (axis,) = prompts.axes
        groups = dict.fromkeys(probe.fields[GROUP] for probe in prompts.probes)
        parts = [completions.scores(on_axis_and_groups(prompts, axis, (one,)), silent=True)[0] for one in groups]
        # A join of one part is that part, digest of the part and all.
        return replace(join_scores(prompts, parts), probe_digest=prompts.digest)

    if scorer.revision == UNVERSIONED:
        return score()
    key = {
        "version": SCORING_VERSION,
        **writer.identity,
        "probes": prompts.digest,
        "protocol": protocol,
        "generation": GENERATION_VERSION,
        "scorer": scorer.name,
        "revision": scorer.revision,
    }
    return ProbeScores.from_json(store.obtain_json(kind, key, lambda: score().to_json()))


def _label(prompts: ProbeSet) -> str:
    first = prompts.probes[0]
    return f"{prompts.name}[{first.axis}] {first.fields[GROUP]}"


def _digest(written: Generations) -> str:
    """Of the texts, whoever wrote them."""
    return digest_of([written.probe_digest, str(written.decoding), written.to_json()["items"]])


def axis_gaps(
    scores: ProbeScores, two: tuple[str, str], threshold: float, confidence: float, without_text: int
) -> AxisGaps:
    gaps = [gap(scores, *two, statistic=statistic, threshold=threshold) for statistic in STATISTICS]
    one = gaps[0]  # all of them are made of the same prompts
    return AxisGaps(
        axis=scores.axes[0],
        paired=one.paired,
        items=len(one.items.ids),
        clusters=len(set(one.items.clusters)),
        prompts=one.prompts,
        completions=one.completions,
        without_text=without_text,
        excluded=dict(Counter(one.excluded.values())),
        gaps=tuple(_estimate(found, confidence) for found in gaps),
    )


def _estimate(found: Gap, confidence: float) -> GapEstimate:
    interval = mean_interval(np.asarray([found.items.values]), np.asarray(found.items.clusters), confidence=confidence)
    return GapEstimate(
        statistic=found.statistic,
        first_value=found.first_value,
        second_value=found.second_value,
        difference=found.difference,
        low=float(interval.low),
        high=float(interval.high),
        ratio=found.ratio,
        degenerate=interval.degenerate,
    )
