"""The vocabulary head and its log-sum-exp, tile by tile, for scores without gradients.

A block of logits [512, 1024] stays in the cache and in one buffer: all logits at once are tens of megabytes that the
system hands out and takes back for every batch, which costs as much as the product itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS, COLUMNS = 512, 1024
LEAST = -80.0  # exp of less is nothing beside the 1 of the largest logit, and denormal numbers are slow


@torch.no_grad()
def linear_log_probs(states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Log-probabilities (nats) [N] of `targets` [N] under a softmax over states W' + bias:
    states [N, d], weight W [V, d], bias [V].

    The sum of exponentials is kept relative to the largest logit so far and rescaled when a larger one comes (Milakov
    and Gimelshein 2018, algorithm 3).
    """
    found = torch.empty(len(targets), dtype=states.dtype, device=states.device)
    buffer = torch.empty(ROWS * COLUMNS, dtype=states.dtype, device=states.device)
    for first in range(0, len(targets), ROWS):
        rows, wanted = states[first : first + ROWS], targets[first : first + ROWS]
        largest = torch.full((len(rows),), -torch.inf, dtype=states.dtype, device=states.device)
        total = torch.zeros_like(largest)
        for start in range(0, len(weight), COLUMNS):
            block = weight[start : start + COLUMNS]
            logits = buffer[: len(rows) * len(block)].view(len(rows), len(block))
            torch.mm(rows, block.t(), out=logits)
            if bias is not None:
                logits += bias[start : start + COLUMNS]
            above = torch.maximum(largest, logits.amax(1))
            total.mul_((largest - above).exp_()).add_(logits.sub_(above[:, None]).clamp_(min=LEAST).exp_().sum(1))
            largest = above
        own = (weight[wanted] * rows).sum(1)
        if bias is not None:
            own += bias[wanted]
        found[first : first + ROWS] = own - largest - total.log_()
    return found
