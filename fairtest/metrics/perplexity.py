"""Perplexity of held-out text, in all and by group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fairtest.errors import MetricError


def perplexity(nll: Sequence[float], tokens: Sequence[int]) -> float:
    """exp(sum of negative log-likelihoods / sum of tokens): every token counts the same, not every text.

    Range 1 to infinity, lower is better; a uniform guess over a vocabulary of V has perplexity V. `nll` is in nats, one
    sum per text [N]; `tokens` are the scored tokens of each text [N].

    Raises:
        MetricError: no token, columns of different length, or a loss that is not finite.
    """
    if len(nll) != len(tokens):
        raise MetricError(
            f"{len(nll)} losses and {len(tokens)} token counts", where="perplexity", fix="give one per text"
        )
    count = sum(tokens)
    if count < 1:
        raise MetricError("perplexity of no tokens", where="perplexity", fix="give at least one text with a token")
    for index, loss in enumerate(nll):
        if not math.isfinite(loss):
            raise MetricError(
                f"the loss of text {index} is {loss}",
                where="perplexity",
                fix="check the model's weights: a diverged run gives NaN",
            )
    mean = math.fsum(nll) / count
    if mean > 700:
        raise MetricError(
            f"the mean loss is {mean:.4g} nats per token: the model has diverged",
            where="perplexity",
            fix="train it with a smaller learning rate",
        )
    return math.exp(mean)


def perplexity_by_group(nll: Iterable[float], tokens: Iterable[int], groups: Iterable[str]) -> dict[str, float]:
    """`perplexity` of each group's texts [N], by group name in sorted order.

    Raises:
        MetricError: as `perplexity`, for any group.
    """
    try:
        rows = list(zip(nll, tokens, groups, strict=True))
    except ValueError as error:
        raise MetricError(
            "losses, token counts and groups differ in number", where="perplexity_by_group", fix="give one per text"
        ) from error
    return {
        name: perplexity(
            [loss for loss, _, group in rows if group == name], [n for _, n, group in rows if group == name]
        )
        for name in sorted({group for _, _, group in rows})
    }
