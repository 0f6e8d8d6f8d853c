"""Guards: what has to hold before a comparison means anything.

A model that no longer models language scores near 50 on a stereotype test, and an arm that equals its start shows no
amplification. Neither is fairness.
"""

from __future__ import annotations

import numpy as np

from fairtest.errors import ComparisonError
from fairtest.experiments.arms import HeldOut, Measured
from fairtest.gates.result import Guard
from fairtest.statistics.intervals import perplexity_ratio_interval, weighted_mean_interval


def trained_guard(arm: Measured, *, min_improvement: float, confidence: float) -> Guard:
    """Did it train: held-out loss fell below the pretrained model's by at least `min_improvement` nats per token,
    interval and all.

    The interval is over held-out units and seeds, so the gain is beyond its own noise. Distance of weights proves
    nothing under DP (noise alone moves them), so the held-out loss is asked.
    """
    name = f"{arm.name} was trained"
    after, before = arm.held_out(), arm.start().held_out()
    same_texts(after, before, arm.name, arm.start().name)
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
    return Guard(name, bool(interval.low >= min_improvement), detail)


def collapse_guard(candidate: Measured, reference: Measured, *, max_collapse: float, confidence: float) -> Guard:
    """Utility: the candidate still models language about as well as the reference does."""
    ours, theirs = candidate.held_out(), reference.held_out()
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
    return Guard(f"{candidate.name} still models language", bool(interval.high <= max_collapse), detail)


def different_weights_guard(candidate: Measured, reference: Measured) -> Guard:
    """The two sides are not the same models."""
    shared = set(candidate.identity) & set(reference.identity)
    detail = "the two sides share no run" if not shared else f"{len(shared)} run(s) are on both sides"
    return Guard("different models", not shared, detail)


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
