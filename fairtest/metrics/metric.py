"""What a metric is: item scores in, one value per item out, with a unit, a target and a named protocol."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from fairtest.errors import MetricError
from fairtest.scoring.scores import ProbeScores


@dataclass(frozen=True, slots=True)
class ItemValues:
    """One value per item, in the metric's unit; the metric's estimate is their mean.

    Args:
        templates: labels of a second factor, crossed with `clusters`; empty: there is none.
        ties: items whose texts scored alike, among those that count.
        excluded: items that have no value, each with the reason.
        uncounted: items whose value is the estimate itself, as for this model they have no part in it, each with the
            reason. They are among `ids`, so that every model has the same items (`fairtest.metrics.linear`).

    Raises:
        MetricError: no item, columns of different length, a value that is not finite (the message names the item), or
            an uncounted item that is none.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    values: tuple[float, ...]
    templates: tuple[str, ...] = ()
    ties: int = 0
    excluded: Mapping[str, str] = field(default_factory=dict)
    uncounted: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids or not len(self.ids) == len(self.clusters) == len(self.values):
            raise MetricError(
                f"{len(self.ids)} items, {len(self.clusters)} clusters and {len(self.values)} values do not match",
                where="ItemValues",
                fix="give one cluster and one value per item",
            )
        if len(self.templates) not in (0, len(self.ids)):
            raise MetricError(
                f"{len(self.ids)} items and {len(self.templates)} templates do not match",
                where="ItemValues",
                fix="give one template per item, or none",
            )
        for item, value in zip(self.ids, self.values, strict=True):
            if not math.isfinite(value):
                raise MetricError(f"item {item!r} has the value {value}", where="ItemValues", fix="check its scores")
        for item in self.uncounted.keys() - set(self.ids):
            raise MetricError(
                f"item {item!r} is uncounted and has no value",
                where="ItemValues",
                fix="give its value, the estimate, or exclude it",
            )

    @property
    def estimate(self) -> float:
        """Mean over items."""
        return math.fsum(self.values) / len(self.values)

    @property
    def n(self) -> int:
        """How many items count."""
        return len(self.ids) - len(self.uncounted)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why each item that does not count does not."""
        return {**self.excluded, **self.uncounted}


Direction = Literal["distance from target", "higher is better", "higher is worse"]
DISTANCE: Direction = "distance from target"
HIGHER_IS_BETTER: Direction = "higher is better"
HIGHER_IS_WORSE: Direction = "higher is worse"


@dataclass(frozen=True)
class Metric:
    """A named definition. Two definitions never share a name, and a changed one gets another version.

    Args:
        name: probe set and statistic, such as "stereoset.ss".
        probe_set: the name of the probe set whose scores it reads.
        unit: "points" (hundredths), "nats", or "score" (that of the scorer of completions).
        target: the value of an ideal model, in that unit.
        protocol: whose definition it is ("fairtest" where it is our own choice of details).
        version: of the definition.
        description: one sentence.
        items: the value of every item.
        scoring: the kind of model whose scores it reads: "causal" or "masked"; or "generation", of what a causal model
            writes.
        scoring_protocol: how texts have to be scored for it, where that is not the kind's usual way ("causal-bos",
            "mlm-pll").
        formula: of one item's value, or of the estimate where it is no plain mean of items.
        low, high: the ends of the estimate's range, in the unit.
        direction: which values are bad ones: those away from the target on either side, low ones, or high ones.
        source: paper and section, or what is our own choice.

    Raises:
        MetricError: an unknown direction, or a target outside the range.
    """

    name: str
    probe_set: str
    unit: str
    target: float
    protocol: str
    version: str
    description: str
    items: Callable[[ProbeScores], ItemValues]
    scoring: str = "causal"
    scoring_protocol: str = ""
    formula: str = ""
    low: float = -math.inf
    high: float = math.inf
    direction: Direction = DISTANCE
    source: str = ""

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction):
            raise MetricError(
                f"metric {self.name!r} has the unknown direction {self.direction!r}",
                where="Metric(direction=)",
                fix=f"known directions: {', '.join(get_args(Direction))}",
            )
        if not self.low <= self.target <= self.high:
            raise MetricError(
                f"metric {self.name!r} has the target {self.target}, outside its range from {self.low} to {self.high}",
                where="Metric(target=, low=, high=)",
                fix="give all three in the metric's unit",
            )


@dataclass(frozen=True)
class MetricRef:
    """A metric, perhaps on the items of one axis only; printed as it is written, `stereoset.ss[gender]`."""

    metric: Metric
    axis: str | None = None

    def __str__(self) -> str:
        return self.metric.name if self.axis is None else f"{self.metric.name}[{self.axis}]"


def item_values(ref: MetricRef, scores: ProbeScores) -> ItemValues:
    """The metric's value for every item of the axis.

    Raises:
        MetricError: scores of another probe set, no item with this axis, or a role that the metric needs is missing.
    """
    if scores.probe_set != ref.metric.probe_set:
        raise MetricError(
            f"metric {str(ref)!r} reads scores of {ref.metric.probe_set!r}, and got scores of {scores.probe_set!r}",
            where=str(ref),
            fix=f"score the probe set {ref.metric.probe_set!r}",
        )
    return ref.metric.items(scores if ref.axis is None else on_axis(scores, ref.axis))


def on_axis(scores: ProbeScores, axis: str) -> ProbeScores:
    """The scores of the items of one axis.

    Raises:
        MetricError: no item has it.
    """
    kept = [index for index, found in enumerate(scores.axes) if found == axis]
    if not kept:
        raise MetricError(
            f"no item of probe set {scores.probe_set!r} has axis {axis!r}",
            where=f"{scores.probe_set}[{axis}]",
            fix=f"axes it has: {', '.join(sorted(set(scores.axes)))}",
        )
    return dataclasses.replace(
        scores,
        ids=tuple(scores.ids[i] for i in kept),
        axes=tuple(scores.axes[i] for i in kept),
        clusters=tuple(scores.clusters[i] for i in kept),
        log_probs={role: tuple(column[i] for i in kept) for role, column in scores.log_probs.items()},
        tokens={role: tuple(column[i] for i in kept) for role, column in scores.tokens.items()},
        templates=tuple(scores.templates[i] for i in kept) if scores.templates else (),
        fields=tuple(scores.fields[i] for i in kept) if scores.fields else (),
    )


def per_token(scores: ProbeScores) -> ProbeScores:
    """The same scores with each log-probability divided by its number of scored tokens (nats per token).

    Raises:
        MetricError: a text has no scored token.
    """
    log_probs: Mapping[str, tuple[float, ...]] = {
        role: tuple(
            _divided(value, count, item, role)
            for item, value, count in zip(scores.ids, column, scores.tokens[role], strict=True)
        )
        for role, column in scores.log_probs.items()
    }
    return dataclasses.replace(scores, log_probs=log_probs)


def _divided(log_prob: float, tokens: int, item: str, role: str) -> float:
    if tokens < 1:
        raise MetricError(f"probe {item!r} ({role}) has no scored token", where=item, fix="score it again")
    return log_prob / tokens


def column(scores: ProbeScores, role: str) -> tuple[float, ...]:
    """The log-probabilities of one role.

    Raises:
        MetricError: the probe set has no such role.
    """
    if role not in scores.log_probs:
        raise MetricError(
            f"probe set {scores.probe_set!r} has no text with role {role!r}",
            where=scores.probe_set,
            fix=f"roles it has: {', '.join(sorted(scores.log_probs))}",
        )
    return scores.log_probs[role]
