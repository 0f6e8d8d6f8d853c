"""One model on one probe set: scores that are kept by content, and every metric of the set with its interval.

Nothing is trained. Scores are found again by the digest of the model's files, the items and the protocol, so asking
twice costs no forward pass, whatever paths were given. An axis is scored and kept at a time: an interruption loses no
axis that was finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fairtest.errors import MetricError
from fairtest.experiments.model_scorer import USUAL_PROTOCOLS, ModelScorer, model_kind
from fairtest.experiments.progress import SILENT, Progress
from fairtest.metrics import MetricRef, item_values
from fairtest.metrics.metric import ItemValues, Metric
from fairtest.metrics.own_probes import STATISTICS
from fairtest.metrics.registry import metrics_of
from fairtest.probes.probe import ANTI_STEREOTYPE, STEREOTYPE, UNRELATED, ProbeSet
from fairtest.scoring.scores import ProbeScores
from fairtest.statistics.intervals import mean_interval
from fairtest.store import Store
from fairtest.training.sources import resolve_model


@dataclass(frozen=True)
class ModelEstimate:
    """One metric of one model, on all items or on those of one axis.

    The interval is over the clusters of items: it says nothing of other training runs ("this checkpoint only").
    `items` counts those that the estimate is of, `excluded` the others by reason.
    """

    metric: str
    unit: str
    target: float
    protocol: str
    version: str
    estimate: float
    low: float
    high: float
    items: int
    clusters: int
    ties: int
    excluded: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; an interval of too few clusters has null bounds."""
        values = asdict(self)
        for name in ("low", "high"):
            if not np.isfinite(values[name]):
                values[name] = None
        return values


@dataclass(frozen=True)
class ModelScores:
    """Scores by protocol kind ("causal", "masked"), and the estimates made of them."""

    model: str
    model_digest: str
    probe_set: str
    probe_digest: str
    scores: Mapping[str, ProbeScores]
    values: Mapping[str, ItemValues]
    estimates: tuple[ModelEstimate, ...]
    skipped: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, without the scores of single items."""
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            "probe_set": self.probe_set,
            "probe_digest": self.probe_digest,
            "estimates": [estimate.as_dict() for estimate in self.estimates],
            "skipped": dict(self.skipped),
        }


def score_model(
    model: str,
    probes: ProbeSet,
    *,
    metrics: Sequence[MetricRef] | None = None,
    store: Store,
    progress: Progress = SILENT,
    confidence: float = 0.95,
    threads: int = 0,
    device: str = "cpu",
) -> ModelScores:
    """Every metric of a probe set, on all items and by axis, or the `metrics` given, on one model.

    `model` is a directory, a hub id or an embedded name. Axes that nobody asks for are not scored.

    A metric that reads scores of another kind of model is skipped, with the reason; where none is left, that is an
    error.

    Raises:
        ModelError: the model cannot be had.
        ProbeError: an item cannot be scored.
        MetricError: no metric fits the model, or a score is not finite.
    """
    source = resolve_model(model)
    kind = model_kind(source)
    refs = _all_of(probes) if metrics is None else tuple(metrics)
    fitting = [ref for ref in refs if ref.metric.scoring == kind]
    skipped = {str(ref): f"reads scores of a {ref.metric.scoring} model" for ref in refs if ref not in fitting}
    if not fitting:
        names = ", ".join(map(str, refs)) or "none"
        raise MetricError(
            f"no metric of probe set {probes.name!r} reads scores of a {kind} language model, as {model!r} is",
            where=f"metrics: {names}",
            fix="give a model of the other kind, or another probe set",
        )
    scorer = ModelScorer(source, kind, store, progress, threads, device=device)
    found: dict[str, ProbeScores] = {}
    values: dict[str, ItemValues] = {}
    estimates: list[ModelEstimate] = []
    for protocol, group in _by_protocol(fitting, kind).items():
        axes = {axis for ref in group for axis in (probes if ref.axis is None else probes.only(ref.axis)).axes}
        found[protocol] = scorer.scores(probes, sorted(axes), protocol)
        for ref in group:
            items = item_values(ref, found[protocol])
            values[str(ref)] = items
            estimates.append(_estimate(ref, items, confidence))
    order = [str(ref) for ref in fitting]
    estimates.sort(key=lambda one: order.index(one.metric))
    return ModelScores(source.name, source.digest, probes.name, probes.digest, found, values, tuple(estimates), skipped)


def _all_of(probes: ProbeSet) -> tuple[MetricRef, ...]:
    axes = (None, *(probes.axes if len(probes.axes) > 1 else ()))
    return tuple(MetricRef(metric, axis) for metric in _metrics_of(probes) for axis in axes)


def _by_protocol(refs: Sequence[MetricRef], kind: str) -> dict[str, list[MetricRef]]:
    groups: dict[str, list[MetricRef]] = {}
    for ref in refs:
        groups.setdefault(ref.metric.scoring_protocol or USUAL_PROTOCOLS[kind], []).append(ref)
    return groups


def _metrics_of(probes: ProbeSet) -> tuple[Metric, ...]:
    """The metrics registered for the set; of a file of one's own, the statistics that its roles allow."""
    known = metrics_of(probes.name)
    if known or not {STEREOTYPE, ANTI_STEREOTYPE} <= set(probes.roles):
        return known
    names = [name for name in STATISTICS if UNRELATED in probes.roles or not name.startswith("lms")]
    return tuple(replace(STATISTICS[name], name=f"{probes.name}:{name}", probe_set=probes.name) for name in names)


def _estimate(ref: MetricRef, items: ItemValues, confidence: float) -> ModelEstimate:
    clusters = np.asarray((items.clusters, items.templates) if items.templates else items.clusters)
    interval = mean_interval(np.asarray([items.values]), clusters, confidence=confidence)
    metric = ref.metric
    return ModelEstimate(
        str(ref),
        metric.unit,
        metric.target,
        metric.protocol,
        metric.version,
        float(interval.estimate),
        float(interval.low),
        float(interval.high),
        items.n,
        interval.clusters,
        items.ties,
        dict(Counter(items.reasons.values())),
    )
