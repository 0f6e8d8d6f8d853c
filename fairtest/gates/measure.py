"""What one arm measures: a metric's items as an array, and its estimate with an interval."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fairtest.errors import ComparisonError, MetricError
from fairtest.experiments.arms import HeldOut, Measured
from fairtest.experiments.model_scorer import CAUSAL
from fairtest.gates.result import Estimate
from fairtest.metrics import MetricRef, icat_score, item_values, parse_metric
from fairtest.scoring.generation_protocols import GENERATION, parse_generation
from fairtest.scoring.scores import ProbeScores
from fairtest.scoring.text_scorers import resolve_scorer
from fairtest.statistics.intervals import Interval, mean_interval, weighted_mean_interval

Values = npt.NDArray[np.float64]
Labels = npt.NDArray[np.str_]
_ICAT = re.compile(r"stereoset\.icat(?P<axis>\[[^\[\]]+\])?")
_PERPLEXITY = re.compile(r"perplexity(\[(?P<group>[^\[\]]+)\])?")


def measure(arm: Measured, metric: str, *, confidence: float) -> tuple[Estimate, int, int, int]:
    """(estimate, seeds, items, clusters) of one arm on one metric: a named metric, or one of two that are no means of
    items and so cannot be gated, "perplexity" (or "perplexity[GROUP]") and "stereoset.icat" (or
    "stereoset.icat[AXIS]").
    """
    perplexity = _PERPLEXITY.fullmatch(metric) if isinstance(metric, str) else None
    if perplexity is not None:
        return _perplexity(arm, perplexity["group"], confidence)
    icat = _ICAT.fullmatch(metric) if isinstance(metric, str) else None
    if icat is not None:
        return _icat(arm, icat["axis"] or "", confidence)
    ref = gate_metric(metric, arm)
    values, _, clusters = item_matrix(arm, ref)
    interval = mean_interval(values, clusters, confidence=confidence)
    return estimate_of(interval), interval.seeds, interval.items, interval.clusters


def _icat(arm: Measured, axis: str, confidence: float) -> tuple[Estimate, int, int, int]:
    """ICAT = LMS min(SS, 100 - SS) / 50 of the two means, with the interval of its linearisation (delta method).

    Each item and seed stands for ICAT plus its part in the derivative by LMS and by SS, so that seeds and clusters
    enter
    as they do for a mean. At SS = 50 the derivative jumps and the interval is only a guide.
    """
    lms, _, clusters = item_matrix(arm, parse_metric(f"stereoset.lms{axis}"))
    ss, _, _ = item_matrix(arm, parse_metric(f"stereoset.ss{axis}"))
    lm_score, ss_score = float(lms.mean()), float(ss.mean())
    by_lms = min(ss_score, 100.0 - ss_score) / 50.0
    by_ss = lm_score / 50.0 * (1.0 if ss_score < 50.0 else -1.0)
    linear = icat_score(lm_score, ss_score) + by_lms * (lms - lm_score) + by_ss * (ss - ss_score)
    interval = mean_interval(linear, clusters, confidence=confidence)
    return estimate_of(interval), interval.seeds, interval.items, interval.clusters


def _perplexity(arm: Measured, group: str | None, confidence: float) -> tuple[Estimate, int, int, int]:
    """Held-out perplexity, exp(sum NLL / sum tokens), of all texts or of one group of them."""
    held = held_out_of(arm)
    kept = [index for index, name in enumerate(held.groups) if group is None or name == group]
    if not kept:
        names = ", ".join(sorted(set(held.groups) - {""})) or "none (set 'group_field')"
        raise MetricError(
            f"no held-out text has group {group!r}", where=f"perplexity[{group}]", fix=f"groups there are: {names}"
        )
    tokens = np.asarray(held.tokens, dtype=float)[kept]
    losses = np.asarray(held.nll)[:, kept] / tokens
    interval = weighted_mean_interval(losses, tokens, [held.units[index] for index in kept], confidence=confidence)
    low, high = (math.exp(value) if value < 700 else math.inf for value in (interval.low, interval.high))
    return Estimate(math.exp(interval.estimate), low, high), interval.seeds, interval.items, interval.clusters


def held_out_of(arm: Measured) -> HeldOut:
    """Its held-out losses.

    Raises:
        ComparisonError: there are none.
    """
    held = arm.held_out()
    if held is None:
        raise ComparisonError(
            f"{arm.name} has no held-out texts",
            where="held-out perplexity",
            fix="give texts that it was not trained on: Checkpoint(..., held_out=)",
        )
    return held


def gate_metric(text: str, *arms: Measured) -> MetricRef:
    """The metric that is written so, if these arms can be measured with it; before anything is trained.

    Raises:
        MetricError: no such metric, one that reads what the arms do not give, or whose scorer of texts is not there.
    """
    ref = parse_metric(text)
    for arm in arms:
        if ref.metric.scoring == GENERATION and arm.kind != CAUSAL:
            raise MetricError(
                f"metric {text!r} reads what a model writes, and {arm.name} is a {arm.kind} language model, which"
                " continues no prompt",
                where="metric",
                fix="use a metric of masked models; `fairtest score MODEL PROBES` shows which there are",
            )
        if ref.metric.scoring not in (GENERATION, arm.kind):
            raise MetricError(
                f"metric {text!r} reads scores of a {ref.metric.scoring} model, and {arm.name} is a {arm.kind} one",
                where="metric",
                fix="use a metric of that kind of model; `fairtest score MODEL PROBES` shows which there are",
            )
    if ref.metric.scoring == GENERATION:
        resolve_scorer(parse_generation(ref.metric.scoring_protocol).scorer)
    return ref


def scores_of(arm: Measured, ref: MetricRef) -> tuple[ProbeScores, ...]:
    """What the metric reads, one entry a seed."""
    return arm.scores(ref.metric.probe_set, ref.axis, ref.metric.scoring_protocol or None)


def item_matrix(
    arm: Measured, ref: MetricRef, scores: Sequence[ProbeScores] | None = None
) -> tuple[Values, tuple[str, ...], Labels]:
    """(values [seeds, items], item ids, clusters [items] or, with templates, [2, items]) of an arm.

    `scores`: its own, where they are at hand.

    Raises:
        ComparisonError: the seeds were not scored on the same items.
    """
    rows = [item_values(ref, one) for one in (scores_of(arm, ref) if scores is None else scores)]
    first = rows[0]
    if any(row.ids != first.ids for row in rows):
        raise ComparisonError(
            f"the seeds of {arm.name} were scored on different items", where=str(ref), fix="score them again"
        )
    clusters = np.asarray((first.clusters, first.templates) if first.templates else first.clusters)
    return np.asarray([row.values for row in rows], dtype=float), first.ids, clusters


def estimate_of(interval: Interval) -> Estimate:
    """The interval without what it rests on."""
    return Estimate(float(interval.estimate), float(interval.low), float(interval.high))
