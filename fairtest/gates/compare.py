"""Two or more arms on one metric: the same items, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairtest.errors import ComparisonError
from fairtest.experiments.arms import Measured
from fairtest.gates.measure import Labels, Values, estimate_of, gate_metric, item_matrix, scores_of
from fairtest.gates.result import Estimate, Flips, GateSetupError, WorstItem
from fairtest.metrics import MetricRef
from fairtest.scoring.generation_protocols import GENERATION
from fairtest.scoring.scores import ProbeScores
from fairtest.scoring.text_scorers import scorer_of
from fairtest.statistics.intervals import mean_interval
from fairtest.statistics.planning import mcnemar_exact

WORST_ITEMS = 3
_PREFERENCES = (0.0, 50.0, 100.0)
_TIE = 50.0


@dataclass(frozen=True)
class Compared:
    """Item values [seeds, items] by arm, in the order the arms were given; `clusters` as `item_matrix` gives them."""

    ref: MetricRef
    values: Mapping[str, Values]
    scores: Mapping[str, Sequence[ProbeScores]]
    ids: tuple[str, ...]
    clusters: Labels

    @property
    def protocol(self) -> str:
        """The metric's protocol and version; of what a model writes also what scored it, whose name may stand for one
        classifier here and for another elsewhere.
        """
        metric = self.ref.metric
        told = f"{metric.protocol} v{metric.version}"
        scored = next(iter(self.scores.values()))[0].protocol
        return f"{told}, scored by {scorer_of(scored)}" if metric.scoring == GENERATION else told

    def level(self, arm: Measured, confidence: float) -> Estimate:
        """The metric's value of one arm, with its interval."""
        return estimate_of(mean_interval(self.values[arm.name], self.clusters, confidence=confidence))

    def worst(self, candidate: Measured, reference: Measured | None) -> tuple[WorstItem, ...]:
        """The items whose values moved furthest away from the target (None: lie furthest from it)."""
        moved = _away(self.values[candidate.name], self.ref.metric.target).mean(axis=0)
        if reference is not None:
            moved = moved - _away(self.values[reference.name], self.ref.metric.target).mean(axis=0)
        terms = np.atleast_2d(self.clusters)[0]
        order = sorted(range(len(self.ids)), key=lambda i: -moved[i])[:WORST_ITEMS]
        return tuple(WorstItem(self.ids[i], str(terms[i]), float(moved[i])) for i in order)

    def flips(self, candidate: Measured, reference: Measured) -> tuple[Flips, ...]:
        """By seed, the items whose preference differs; nothing for a metric that is no share of preferences."""
        ours, theirs = self.values[candidate.name], self.values[reference.name]
        if not (np.isin(ours, _PREFERENCES).all() and np.isin(theirs, _PREFERENCES).all()):
            return ()
        ours, theirs = np.broadcast_arrays(ours, theirs)
        return tuple(
            Flips(int((a > b).sum()), int((a < b).sum()), mcnemar_exact(a, b))
            for a, b in zip(ours, theirs, strict=True)
        )

    def moves(self, candidate: Measured, reference: Measured | None) -> Values | None:
        """Differences of items [seeds, items] between the sides (None: from the target); None where the metric is no
        share of preferences.
        """
        target, ours = self.ref.metric.target, self.values[candidate.name]
        theirs = np.full((1, ours.shape[1]), target) if reference is None else self.values[reference.name]
        return ours - theirs if np.isin(ours, _PREFERENCES).all() and np.isin(theirs, _PREFERENCES).all() else None

    def stillness(self, *arms: Measured) -> str:
        """Why an interval over these arms may have no width; "" where nothing special is to be said."""
        values = np.concatenate([self.values[arm.name] for arm in arms])
        if np.isin(values, _PREFERENCES).all() and (values == _TIE).all():
            return (
                f"all {len(self.ids)} items are ties: the models find both sentences equally likely, so the probes say "
                "nothing about them"
            )
        if len(np.unique(values)) == 1:
            return f"every item has the value {values.flat[0]:g} on every side: a constant is no measurement"
        return ""


def compare(metric: str, *arms: Measured) -> Compared:
    """The arms' item values, seeds paired by position.

    Raises:
        GateSetupError, MetricError: it is no metric that arms can be gated with.
        ComparisonError: the arms were scored on other items, or in another way.
    """
    if isinstance(metric, str) and metric.partition("[")[0] == "perplexity":
        raise GateSetupError(
            "perplexity is utility, not bias", where="metric=", fix="use assert_utility(max_perplexity_ratio=)"
        )
    ref = gate_metric(metric, *arms)
    first, *others = arms
    values: dict[str, Values] = {}
    scores = {first.name: scores_of(first, ref)}
    values[first.name], ids, clusters = item_matrix(first, ref, scores[first.name])
    for other in others:
        scores[other.name] = scores_of(other, ref)
        values[other.name], their_ids, _ = item_matrix(other, ref, scores[other.name])
        _same_protocol(first, other, scores, ref)
        if ids != their_ids:
            raise ComparisonError(
                f"{first.name} and {other.name} were scored on different items", where=metric, fix="score them again"
            )
    return Compared(ref, values, scores, ids, clusters)


def scope(*arms: Measured) -> tuple[int, str]:
    """(fewest seeds of the tuned sides, what the interval is about): one seed on either side makes it a claim about
    that checkpoint.
    """
    seeds = min((len(arm.identity) for arm in arms if arm.tuned), default=1)
    return seeds, "training" if seeds > 1 else "this checkpoint only"


def require_arms(*arms: Measured) -> None:
    """All are arms, and no two that differ have one name.

    Raises:
        GateSetupError: one is something else, a name for example, or results could not tell two of them apart.
    """
    for arm in arms:
        if not hasattr(arm, "held_out") or not hasattr(arm, "scores"):
            raise GateSetupError(
                f"{arm!r} is no arm", where="candidate, reference", fix='give arms.dp or arms["dp"], not its name'
            )
    named: dict[str, Measured] = {}
    for arm in arms:
        other = named.setdefault(arm.name, arm)
        if other is not arm and other.identity != arm.identity:
            raise GateSetupError(
                f"two arms are called {arm.name!r}",
                where="candidate, reference",
                fix="give each its own name: Checkpoint(..., name=)",
            )


def _same_protocol(
    first: Measured, other: Measured, scores: Mapping[str, Sequence[ProbeScores]], ref: MetricRef
) -> None:
    ours, theirs = scores[first.name][0], scores[other.name][0]
    if ours.probe_digest != theirs.probe_digest or ours.protocol != theirs.protocol:
        raise ComparisonError(
            f"{first.name} and {other.name} were scored with different probes or protocols "
            f"({ours.protocol} and {theirs.protocol})",
            where=str(ref),
            fix="score both sides with one version of the probe set and one protocol",
        )


def _away(values: Values, target: float | None) -> Values:
    """How far items lie on the side of their arm's own deviation from the target."""
    if target is None:
        return values
    side = 1.0 if values.mean() >= target else -1.0
    return side * (values - target)
