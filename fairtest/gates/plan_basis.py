"""Where the numbers of a plan come from: scores that are in the store, or assumptions that are named.

Assumptions are for what nobody has measured yet. A preference share: 15% of items prefer another sentence (two models
of one family on StereoSet: 14%), so an item's change has a standard deviation of 100 sqrt(0.15) points. A mean log
ratio: an item's change has twice the standard deviation that items have under the pretrained model (1.7 to 2.1 times,
measured on the embedded model for DP, CDA and both against the baseline). Items of a cluster are alike: their
correlation is taken as 0.05 (0.04 to 0.13 there), which with clusters of m items multiplies the variance by
1 + 0.05 (m - 1). Between paired seeds a change has a standard deviation of 3 points (3.2 to 3.8 there), or of 0.3 times
the pretrained items' (0.23 to 0.37 there). All of it is replaced by what is measured as soon as there are scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fairtest.experiments.arms import Measured, TunedArm
from fairtest.experiments.experiment import PROTOCOL, Experiment
from fairtest.experiments.model_scorer import SCORING_VERSION
from fairtest.gates.compare import compare
from fairtest.gates.measure import Labels, held_out_of, item_matrix
from fairtest.metrics import ItemValues, MetricRef, item_values
from fairtest.probes.probe import ProbeSet
from fairtest.scoring.scores import ProbeScores
from fairtest.specs import digest_of
from fairtest.statistics.components import Contrast, design
from fairtest.statistics.intervals import (
    amplification_interval,
    distance_interval,
    perplexity_ratio_interval,
)
from fairtest.statistics.power import DISCORDANCE, planned_contrast
from fairtest.store import Entry

CORRELATION = 0.05
CHANGE_OF_ITEMS = 2.0
SEEDS_OF_ITEMS = 0.3
SEED_SD_POINTS = 3.0
_COIN = 0.25  # discordance whose item has the standard deviation of a fair coin, 50 points
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
        return _measured(interval.deciding, known, asked.seeds, _seed_sd(sides, asked))
    return _assumed(sides, asked, discordance=DISCORDANCE, scale=CHANGE_OF_ITEMS)


def basis_of_level(arm: Measured, asked: Asked) -> Basis:
    """Of how far the arm is from the target."""
    known = _known((arm,), asked)
    if known:
        values, _, clusters = item_matrix(_limited(arm, known), asked.ref)
        interval = distance_interval(values, clusters, asked.ref.metric.target)
        return _measured(interval.deciding, known, asked.seeds, _seed_sd((arm,), asked))
    return _assumed((arm,), asked, discordance=_COIN, scale=1.0)


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


def _measured(contrast: Contrast, known: int, seeds: int, seed_sd: float | None) -> Basis:
    if contrast.variance == 0.0:
        return Basis(None, "no basis (nothing varied between the seeds and items that are there)")
    several = f"{known} seeds" if known > 1 else "1 seed"
    if known > 1 or seeds == 1:
        return Basis(contrast, f"measured: scores of {several} of these arms in the store")
    if seed_sd is None:
        return Basis(None, "no basis (one seed in the store says nothing of others)")
    spread = Contrast(contrast.estimate, 1, seed_sd, contrast.cluster_se, 0.0, contrast.cluster_df)
    text = f"measured: scores of 1 seed of these arms in the store; assumed: {seed_sd:.2g} between paired seeds"
    return Basis(spread, text)


def _assumed(arms: Sequence[Measured], asked: Asked, *, discordance: float, scale: float) -> Basis:
    items, unit = asked.items, asked.ref.metric.unit
    effect = items.design_effect
    alike = "" if effect == 1.0 else f", design effect {effect:.1f} (items of a cluster correlated by {CORRELATION:g})"
    if not items.fixed:
        return Basis(None, "no basis (which items count depends on what the models answer)")
    seeds = max(asked.seeds, 2)  # with one, the part between seeds would be lost, and a plan may ask for more
    if items.share:
        spread = planned_contrast(
            items.count,
            items.effective_clusters,
            seeds,
            discordance=discordance,
            seed_sd=SEED_SD_POINTS,
            design_effect=effect,
        )
        what = f"discordance {discordance:g}" if discordance != _COIN else "items like fair coins"
        return Basis(spread, f"assumed: {what}, {SEED_SD_POINTS:g} points between seeds{alike}")
    if unit != "nats":
        return Basis(None, f"no basis (nothing is known of how {asked.ref} varies)")
    sd = _pretrained_sd(arms, asked)
    if sd is None:
        return Basis(None, NO_PRETRAINED)
    spread = planned_contrast(
        items.count,
        items.effective_clusters,
        seeds,
        item_sd=scale * sd,
        seed_sd=SEEDS_OF_ITEMS * sd,
        design_effect=effect,
    )
    what = "items change with" if scale != 1.0 else "items have"
    text = (
        f"assumed: {what} {scale:g} times their standard deviation under the pretrained model ({sd:.2g} nats), "
        f"{SEEDS_OF_ITEMS:g} times that between seeds{alike}"
    )
    return Basis(spread, text)


def _seed_sd(arms: Sequence[Measured], asked: Asked) -> float | None:
    if asked.items.share:
        return SEED_SD_POINTS
    sd = _pretrained_sd(arms, asked) if asked.ref.metric.unit == "nats" else None
    return None if sd is None else SEEDS_OF_ITEMS * sd


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
    """Scores that nobody measured: the first role is the likelier, or the less likely, in every item."""
    count = len(probes)
    return ProbeScores(
        probe_set=probes.name,
        probe_digest=probes.digest,
        protocol=protocol,
        ids=tuple(probe.id for probe in probes.probes),
        axes=tuple(probe.axis for probe in probes.probes),
        clusters=tuple(probe.cluster for probe in probes.probes),
        log_probs={role: (-10.0 - sign * place,) * count for place, role in enumerate(probes.roles)},
        tokens=dict.fromkeys(probes.roles, (10,) * count),
        templates=probes.templates,
        fields=tuple(probe.fields for probe in probes.probes),
    )


def _labels(items: ItemValues) -> Labels:
    return np.asarray((items.clusters, items.templates) if items.templates else items.clusters)
