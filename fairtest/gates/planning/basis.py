"""Where the numbers of a plan come from: scores that are in the store, or assumptions that are named.

Assumptions are for what nobody has measured yet; as soon as there are scores of the arms, these take their place.

A preference share: under one seed 15% of items prefer another sentence than under the reference (two models of one
family on StereoSet: 14%; 18 to 24% on the embedded model), so an item's change has a standard deviation of
100 sqrt(0.15) points. A mean log ratio: an item's change has twice the standard deviation that items have under the
pretrained model (1.7 to 2.1 times on the embedded model, for DP, CDA and both against the baseline).
Two thirds of that variance are another draw with each seed (0.70 to 0.95 there; with two thirds, gates of three seeds
on SmolLM2 come out with about the widths that they had, docs/results). With log ratios, all items move together from
seed to seed too, by 0.25 times the pretrained items' standard deviation (0.2 to 0.35).
A single arm's items: like fair coins, or with 1.5 times the pretrained items' standard deviation (1.25 to 1.9), a third
of the variance drawn with each seed.
Items of a cluster are alike: their correlation is taken as 0.05 (0.04 to 0.13 on the embedded model), which with
clusters of m items multiplies the variance by 1 + 0.05 (m - 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fairtest.digests import digest_of
from fairtest.experiments.arms import Measured, TunedArm
from fairtest.experiments.experiment import PROTOCOL, Experiment
from fairtest.experiments.model_scorer import SCORING_VERSION
from fairtest.gates.compare import compare
from fairtest.gates.measure import Labels, held_out_of, item_matrix
from fairtest.metrics import ItemValues, MetricRef, item_values
from fairtest.probes.probe import ProbeSet
from fairtest.probes.prompts import GROUP
from fairtest.scoring.completions import COMPLETION
from fairtest.scoring.generation_protocols import is_generation
from fairtest.scoring.scores import ProbeScores
from fairtest.statistics.components import Contrast, design
from fairtest.statistics.intervals import (
    amplification_interval,
    distance_interval,
    perplexity_ratio_interval,
)
from fairtest.statistics.power import DISCORDANCE, planned_contrast
from fairtest.store import Entry

CORRELATION = 0.05
COMMON_OF_ITEMS = 0.25


@dataclass(frozen=True)
class _Assumed:
    """How items vary: discordance of a share, items of a log ratio in standard deviations under the pretrained model,
    and which part of the variance is drawn anew with each seed.
    """

    discordance: float
    scale: float
    by_seed: float
    text: str


_CHANGE = _Assumed(DISCORDANCE, 2.0, 2.0 / 3.0, "items change with")
_LEVEL = _Assumed(0.25, 1.5, 1.0 / 3.0, "items have")  # 0.25: the standard deviation of a fair coin, 50 points
NO_PRETRAINED = "no basis (the pretrained model is not scored on these probes yet, and no model may be loaded)"


@dataclass(frozen=True)
class Basis:
    """The parts of a standard error, or None, and where they come from (or why there are none)."""

    spread: Contrast | None
    text: str


@dataclass(frozen=True)
class Items:
    """What the metric will count, without a model: cluster labels as the interval machinery takes them.

    `share`: an item's value is 0, 50 or 100 points. `fixed`: the same items count whatever the model answers.
    """

    clusters: Labels
    share: bool
    fixed: bool

    @property
    def count(self) -> int:
        """Number of items."""
        return int(self.clusters.shape[-1])

    @cached_property
    def factors(self) -> tuple[int, ...]:
        """Number of clusters by factor."""
        return design(self.count, None, self.clusters).clusters

    @cached_property
    def design_effect(self) -> float:
        """How many times the variance is larger than that of independent items, at the assumed correlation."""
        shape = design(self.count, None, self.clusters)
        return 1.0 + sum(CORRELATION * (self.count * float(np.sum(factor.sizes**2)) - 1.0) for factor in shape.factors)

    @cached_property
    def effective_clusters(self) -> int:
        """Clusters of equal size that say as much (Kish), of the factor with the fewest."""
        shape = design(self.count, None, self.clusters)
        return max(1, min(round(factor.df + 1.0) for factor in shape.factors))


@dataclass
class Stored:
    """What an experiment's store holds, looked at once; nothing is made."""

    experiment: Experiment
    runs: dict[str, Entry] = field(default_factory=dict)
    scores: set[tuple[str, str, str]] = field(default_factory=set)
    held_out: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        store = self.experiment.store
        self.runs = {entry.digest: entry for entry in store.entries("run")}
        for entry in store.entries("scores"):
            key = entry.key
            if key["version"] == SCORING_VERSION:
                self.scores.add((key["run"], key["probes"], key["protocol"]))
        for entry in store.entries("held-out"):
            key = entry.key
            settings = self.experiment.settings
            same = (key["max_length"], key["long_texts"]) == (settings.max_length, settings.long_texts)
            if key["version"] == SCORING_VERSION and same:
                self.held_out.add((key["run"], key["texts"]))

    def scored(self, arm: TunedArm, ref: MetricRef, seeds: int) -> int:
        """How many of its first `seeds` seeds have scores that the metric can read."""
        probes = self.experiment.probe_set(ref.metric.probe_set)
        axes = probes.axes if ref.axis is None else (ref.axis,)
        protocol = ref.metric.scoring_protocol or PROTOCOL
        wanted = [probes.only(axis).digest for axis in axes]
        return self._first(arm, seeds, lambda run: all((run, one, protocol) in self.scores for one in wanted))

    def judged(self, arm: TunedArm, seeds: int) -> int:
        """How many of its first `seeds` seeds have held-out losses."""
        units = self.experiment.held_out_corpus.units
        texts = digest_of([record.text for unit in units for record in unit.records])
        return self._first(arm, seeds, lambda run: (run, texts) in self.held_out)

    def _first(self, arm: TunedArm, seeds: int, there: Callable[[str], bool]) -> int:
        count = 0
        for digest in arm.limited(seeds).identity:
            if not there(digest) or (arm.tuned and digest not in self.runs):
                break
            count += 1
        return count


def items_of(ref: MetricRef, probes: ProbeSet) -> Items:
    """The items that count, from the probes alone: the metric is asked about made-up answers, one way and the other.

    Raises:
        MetricError, ProbeError: the metric does not fit the probes.
    """
    chosen = probes if ref.axis is None else probes.only(ref.axis)
    if ref.axis is None:
        kept = tuple(probe for probe in probes.probes if probe.axis in probes.axes)
        chosen = ProbeSet(probes.name, probes.version, probes.licence, probes.source, kept, probes.use)
    protocol = ref.metric.scoring_protocol or PROTOCOL
    up, down = (item_values(ref, _made_up(chosen, protocol, sign)) for sign in (1.0, -1.0))
    values = np.asarray([*up.values, *down.values])
    share = ref.metric.unit == "points" and bool(((values >= 0.0) & (values <= 100.0)).all())
    return Items(_labels(up), share, up.ids == down.ids)


@dataclass(frozen=True)
class Asked:
    """What a gate about a metric asks: of which items, with how many seeds, and the store that may know of it."""

    ref: MetricRef
    items: Items
    seeds: int
    stored: Stored | None


def basis_of_change(candidate: Measured, reference: Measured | None, asked: Asked) -> Basis:
    """Of how much further from the target the candidate is than the reference; None: a reference without scores."""
    sides = (candidate,) if reference is None else (candidate, reference)
    known = 0 if reference is None else _known(sides, asked)
    if known:
        limited = [_limited(arm, known) for arm in sides]
        found = compare(str(asked.ref), *limited)
        ours, theirs = (found.values[arm.name] for arm in sides)
        interval = amplification_interval(ours, theirs, found.clusters, asked.ref.metric.target)
        return _measured(interval.deciding, known, asked.seeds, _seeds_of(_CHANGE, sides, asked))
    return _assumed(sides, asked, _CHANGE)


def basis_of_level(arm: Measured, asked: Asked) -> Basis:
    """Of how far the arm is from the target."""
    known = _known((arm,), asked)
    if known:
        values, _, clusters = item_matrix(_limited(arm, known), asked.ref)
        interval = distance_interval(values, clusters, asked.ref.metric.target)
        return _measured(interval.deciding, known, asked.seeds, _seeds_of(_LEVEL, (arm,), asked))
    return _assumed((arm,), asked, _LEVEL)


def basis_of_ratio(candidate: TunedArm, reference: TunedArm, seeds: int, stored: Stored) -> Basis:
    """Of the logarithm of the ratio of their perplexities; only from what is measured."""
    sides = (candidate, reference)
    known = min((stored.judged(arm, seeds) for arm in sides if arm.tuned), default=1)
    if not known or not all(arm.tuned or stored.judged(arm, 1) for arm in sides):
        return Basis(None, "no basis (held-out losses of these arms are not in the store yet)")
    ours, theirs = (held_out_of(_limited(arm, known)) for arm in sides)
    tokens = np.asarray(ours.tokens, dtype=float)
    interval = perplexity_ratio_interval(np.asarray(ours.nll), np.asarray(theirs.nll), tokens, ours.units)
    return _measured(interval.deciding, known, seeds, None)


def _known(arms: Sequence[Measured], asked: Asked) -> int:
    """Seeds with scores on every side, 0 where a side has none."""
    stored, ref = asked.stored, asked.ref
    tuned = [arm for arm in arms if isinstance(arm, TunedArm)]
    if stored is None or len(tuned) < len(arms):
        return 0
    if not all(arm.tuned or stored.scored(arm, ref, 1) for arm in tuned):
        return 0
    return min((stored.scored(arm, ref, asked.seeds) for arm in tuned if arm.tuned), default=1)


def _limited(arm: Measured, seeds: int) -> Measured:
    """The arm with its first seeds, and with values: a planned arm has none."""
    return TunedArm(arm.experiment, arm.spec, seeds) if isinstance(arm, TunedArm) else arm


def _measured(contrast: Contrast, known: int, seeds: int, by_seed: tuple[float, float] | None) -> Basis:
    if contrast.variance == 0.0:
        return Basis(None, "no basis (nothing varied between the seeds and items that are there)")
    if known > 1 or seeds == 1:
        several = f"{known} seeds" if known > 1 else "1 seed"
        return Basis(contrast, f"measured: scores of {several} of these arms in the store")
    if by_seed is None:
        return Basis(None, "no basis (one seed in the store says nothing of others)")
    text = "measured: scores of 1 seed of these arms in the store; assumed: how other seeds differ"
    return Basis(_split(contrast, *by_seed, seeds), text)


def _assumed(arms: Sequence[Measured], asked: Asked, assumed: _Assumed) -> Basis:
    items, unit = asked.items, asked.ref.metric.unit
    if not items.fixed:
        return Basis(None, "no basis (which items count depends on what the models answer)")
    effect, by_seed = items.design_effect, _seeds_of(assumed, arms, asked)
    if by_seed is None:
        return Basis(
            None, NO_PRETRAINED if unit == "nats" else f"no basis (nothing is known of how {asked.ref} varies)"
        )
    part = f"{assumed.by_seed:.0%} of the variance drawn with each seed"
    if effect >= 1.05:
        part += f", design effect {effect:.1f} (items of a cluster correlated by {CORRELATION:g})"
    sd = None if items.share else _pretrained_sd(arms, asked)
    one_seed = planned_contrast(
        items.count,
        items.effective_clusters,
        1,
        discordance=assumed.discordance if sd is None else None,
        item_sd=None if sd is None else assumed.scale * sd,
        design_effect=effect,
    )
    if sd is None:
        what = f"discordance {assumed.discordance:g}" if assumed is _CHANGE else "items like fair coins"
    else:
        pretrained = f"their standard deviation under the pretrained model ({sd:.2g} nats)"
        what = f"{assumed.text} {assumed.scale:g} times {pretrained}"
        part += f"; {COMMON_OF_ITEMS:g} times that between seeds for all items alike"
    return Basis(_split(one_seed, *by_seed, asked.seeds), f"assumed: {what}, {part}")


def _split(one_seed: Contrast, by_seed: float, common_sd: float, seeds: int) -> Contrast:
    """The contrast of several seeds, from one that a single seed has: `by_seed` of its variance is another draw with
    each seed, and with it all items move together by `common_sd`.
    """
    seeds = max(seeds, 2)  # with one, what is between seeds would be lost, and a plan may ask for more
    drawn, variance = by_seed * one_seed.cluster_se**2, one_seed.cluster_se**2
    return Contrast(
        estimate=one_seed.estimate,
        seeds=seeds,
        seed_sd=math.sqrt(drawn + common_sd**2),
        cluster_se=math.sqrt(variance - drawn + drawn / seeds),
        interaction_se=math.sqrt(drawn / seeds),
        cluster_df=one_seed.cluster_df,
    )


def _seeds_of(assumed: _Assumed, arms: Sequence[Measured], asked: Asked) -> tuple[float, float] | None:
    """(part of the items' variance drawn with each seed, standard deviation between seeds of all items together)."""
    if asked.items.share:
        return assumed.by_seed, 0.0
    sd = _pretrained_sd(arms, asked) if asked.ref.metric.unit == "nats" else None
    return None if sd is None else (assumed.by_seed, COMMON_OF_ITEMS * sd)


def _pretrained_sd(arms: Sequence[Measured], asked: Asked) -> float | None:
    """Standard deviation between items under the pretrained model, where its scores are there."""
    for arm in arms:
        if isinstance(arm, TunedArm) and asked.stored is not None:
            start = TunedArm(arm.experiment, arm.start().spec)
            if asked.stored.scored(start, asked.ref, 1):
                values, _, _ = item_matrix(start, asked.ref)
                return float(np.std(values))
    return None


def _made_up(probes: ProbeSet, protocol: str, sign: float) -> ProbeScores:
    """Scores that nobody measured: the first role is the likelier, or the less likely, in every item; of prompts, the
    completions of the first group score higher, or lower.
    """
    count = len(probes)
    columns = {role: (-10.0 - sign * place,) * count for place, role in enumerate(probes.roles)}
    if is_generation(protocol):
        groups = [probe.fields.get(GROUP, "") for probe in probes.probes]
        columns = {f"{COMPLETION}0": tuple(sign if group == groups[0] else -sign for group in groups)}
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol=protocol,
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs=columns,
        tokens=dict.fromkeys(columns, (10,) * count),
        templates=probes.templates,
        fields=tuple(probe.fields for probe in probes.probes),
    )


def _labels(items: ItemValues) -> Labels:
    return np.asarray((items.clusters, items.templates) if items.templates else items.clusters)
