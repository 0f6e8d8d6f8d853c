"""Guards: what has to hold before a comparison means anything.

A model that no longer models language scores near 50 on a stereotype test, and an arm that equals its start shows no
amplification. Neither is fairness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fairtest.errors import ComparisonError
from fairtest.experiments.arms import HeldOut, Measured
from fairtest.gates.result import Guard
from fairtest.gates.written import written_guards
from fairtest.scoring.scores import ProbeScores
from fairtest.settings import Settings
from fairtest.statistics.intervals import perplexity_ratio_interval, weighted_mean_interval


def guards_of(
    candidate: Measured,
    others: Sequence[Measured],
    settings: Settings,
    scores: Mapping[str, Sequence[ProbeScores]],
    *,
    collapse: bool = True,
) -> list[Guard]:
    """Every guard of a comparison of `candidate` with `others` (none: with its own start): different weights, trained,
    changed by CDA, seeds that differ, text written where that is measured, and a candidate that still models language.

    `scores`: those of the gate, by arm, one entry a seed. `collapse` False leaves the last one out: of a gate that asks
    for just that.
    """
    arms = (candidate, *others)
    guards = [different_weights_guard(candidate, other) for other in others]
    for arm in arms:
        if arm.tuned:
            guards.append(trained_guard(arm, min_improvement=settings.min_improvement, confidence=settings.confidence))
            guards += augmented_guards(arm)
        guards += seeds_guards(arm, scores.get(arm.name, ()))
        guards += written_guards(arm.name, scores.get(arm.name, ()))
    reference = others[0] if others else start_of(candidate)
    if collapse and reference is not None and reference is not candidate:
        limits = {"max_collapse": settings.max_collapse, "confidence": settings.confidence}
        guards.append(collapse_guard(candidate, reference, **limits))
    return guards


def start_of(arm: Measured) -> Measured | None:
    """The model an arm was tuned from; None where nobody knows."""
    return arm.start() if getattr(arm, "start_known", True) else None


def trained_guard(arm: Measured, *, min_improvement: float, confidence: float) -> Guard:
    """Did it train: held-out loss fell below the pretrained model's by at least `min_improvement` nats per token,
    interval and all.

    The interval is over held-out units and seeds, so the gain is beyond its own noise. Distance of weights proves
    nothing under DP (noise alone moves them), so the held-out loss is asked.
    """
    name = f"{arm.name} was trained"
    start = start_of(arm)
    if start is None:
        return Guard(
            name,
            met=False,
            detail="it is not known what it was tuned from",
            advice="say what it was tuned from: Checkpoint(..., start=)",
        )
    after, before = arm.held_out(), start.held_out()
    if after is None or before is None:
        return Guard(
            name,
            met=False,
            detail="there are no held-out texts that would show it",
            advice="give texts that it was not trained on: Checkpoint(..., held_out=)",
        )
    same_texts(after, before, arm.name, start.name)
    tokens = np.asarray(after.tokens, dtype=float)
    gain = (np.asarray(before.nll) - np.asarray(after.nll)) / tokens
    interval = weighted_mean_interval(gain, tokens, after.units, confidence=confidence)
    detail = (
        f"held-out loss {'fell' if interval.estimate >= 0 else 'ROSE'} by {abs(interval.estimate):.3f} nats a token "
        f"[{interval.low:.3f}, {interval.high:.3f}] from the pretrained model's, at least {min_improvement:g} is needed"
    )
    tensors = arm.trained_tensors()
    if tensors is not None:
        detail += f"; each of {tensors} trained tensors got a gradient"
    return Guard(
        name,
        bool(interval.low >= min_improvement),
        detail,
        "train longer, with a larger budget or learning rate, or more units, until the guard is met",
        open=bool(interval.low < min_improvement <= interval.estimate),
    )


def collapse_guard(candidate: Measured, reference: Measured, *, max_collapse: float, confidence: float) -> Guard:
    """Utility: the candidate still models language about as well as the reference does."""
    name = f"{candidate.name} still models language"
    ours, theirs = candidate.held_out(), reference.held_out()
    if ours is None or theirs is None:
        return Guard(
            name,
            met=False,
            detail="there are no held-out texts that would show it",
            advice="give texts that neither was trained on: Checkpoint(..., held_out=)",
        )
    same_texts(ours, theirs, candidate.name, reference.name)
    interval = perplexity_ratio_interval(
        np.asarray(ours.nll),
        np.asarray(theirs.nll),
        np.asarray(ours.tokens, dtype=float),
        ours.units,
        confidence=confidence,
    )
    detail = (
        f"held-out perplexity {interval.estimate:.2f} times that of {reference.name} (at most {interval.high:.2f}), "
        f"more than {max_collapse:g} times counts as collapsed"
    )
    return Guard(
        name,
        bool(interval.high <= max_collapse),
        detail,
        f"train {candidate.name} until it models language again: a model that does not is near the target by chance",
        open=bool(interval.estimate <= max_collapse < interval.high),
    )


def different_weights_guard(candidate: Measured, reference: Measured) -> Guard:
    """The two sides are not the same models."""
    shared = set(candidate.identity) & set(reference.identity)
    detail = "the two sides share no run" if not shared else f"{len(shared)} run(s) are on both sides"
    return Guard("different models", not shared, detail, "compare two arms that differ")


def augmented_guards(arm: Measured) -> list[Guard]:
    """CDA changed something; nothing for an arm without CDA."""
    share = arm.changed_share()
    if share is None:
        return []
    return [
        Guard(
            f"CDA changed the corpus of {arm.name}",
            share > 0,
            f"{100 * share:.1f}% of its records have a counterfactual",
            "choose axes whose words occur in the corpus (`fairtest cda preview` shows them)",
        )
    ]


def seeds_guards(arm: Measured, scores: Sequence[ProbeScores]) -> list[Guard]:
    """No two seeds are the same model: copies would pass for agreement. Nothing where there is one seed."""
    if len(arm.identity) < 2:
        return []
    distinct = len(set(arm.identity))
    texts = len({tuple(map(tuple, row.log_probs.values())) for row in scores}) if scores else distinct
    same = len(arm.identity) - min(distinct, texts)
    return [
        Guard(
            f"the seeds of {arm.name} are different models",
            not same,
            f"{len(arm.identity)} seeds, no two alike"
            if not same
            else f"{same} of {len(arm.identity)} seeds repeat another",
            "train each seed anew: a seed that changes nothing, or the same checkpoint twice, is one model",
        )
    ]


def same_texts(ours: HeldOut, theirs: HeldOut, our_name: str, their_name: str) -> None:
    """Both sides were evaluated on the same held-out texts and tokens.

    Raises:
        ComparisonError: they were not.
    """
    if ours.digest != theirs.digest or ours.tokens != theirs.tokens:
        raise ComparisonError(
            f"{our_name} and {their_name} were evaluated on different held-out texts or tokens",
            where="held-out perplexity",
            fix="compare arms of one corpus and one tokenizer",
        )
