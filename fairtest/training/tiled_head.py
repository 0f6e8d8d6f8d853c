"""The vocabulary head and its log-sum-exp, tile by tile, for scores without gradients.

A block of logits [1024, 512] stays in the cache and in one buffer: all logits at once are tens of megabytes that the
system hands out and takes back for every batch, which costs as much as the product itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ROWS, COLUMNS = 1024, 512
MOST = 80.0  # exp of less than its negative is nothing beside the 1 of the first block, and denormal numbers are slow
_TOO_MUCH = math.exp(MOST - 1)


@torch.no_grad()
def linear_log_probs(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, of: Tensor | None = None
) -> Tensor:
    """Log-probabilities (nats) [N] of `targets` [N] under a softmax over states W' + bias:
    states [N, d], weight W [V, d], bias [V].

    With `of` [N] each target belongs to the state states[of], of which there may be fewer: the product is taken once
    for each state, however many targets it has.
    """
    totals = (
        torch.cat([_log_totals(rows, weight, bias) for rows in torch.split(states, ROWS)])
        if len(states)
        else states[:, 0]
    )
    found = torch.empty(len(targets), dtype=states.dtype, device=states.device)
    for first in range(0, len(targets), ROWS):
        places = slice(first, first + ROWS)
        wanted = targets[places]
        rows, total = (states[places], totals[places]) if of is None else (states[of[places]], totals[of[places]])
        own = (weight[wanted] * rows).sum(1)
        if bias is not None:
            own += bias[wanted]
        found[places] = own - total
    return found


def _log_totals(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Log of the sum over all outputs of exp(logit), for each row.

    Exponentials are kept relative to the largest logit of the first block, which is no more than the largest of all;
    only where that is so much more that it leaves the range of a float, the largest is looked for first.
    """
    buffer = torch.empty(len(rows) * COLUMNS, dtype=rows.dtype, device=rows.device)

    def block(start: int) -> Tensor:
        part = weight[start : start + COLUMNS]
        logits = buffer[: len(rows) * len(part)].view(len(rows), len(part))
        torch.mm(rows, part.t(), out=logits)
        return logits if bias is None else logits.add_(bias[start : start + COLUMNS])

    starts = range(0, len(weight), COLUMNS)
    shift = block(0).amax(1)
    total = _sum_of_exp(block, starts, shift)
    if (total > _TOO_MUCH).any():
        for start in starts:
            shift = torch.maximum(shift, block(start).amax(1))
        total = _sum_of_exp(block, starts, shift)
    return shift + total.log_()


def _sum_of_exp(block: Callable[[int], Tensor], starts: Sequence[int], shift: Tensor) -> Tensor:
    total = torch.zeros_like(shift)
    for start in starts:
        total += block(start).sub_(shift[:, None]).clamp_(-MOST, MOST).exp_().sum(1)
    return total
